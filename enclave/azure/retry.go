package azure

import (
	"context"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// Deadline bounds one operation with all its tries: a throttled vault is asked
// again for as long as people wait for a start, and no longer.
const Deadline = 2 * time.Minute

// maxRetries is more than fit into Deadline: the deadline ends it, not the
// count. The SDK doubles its delay from 0.8 s on, or does as Retry-After says.
const maxRetries = 16

// ClientOptions completes a client's options: bounded transport, and tries that
// end in 408, 429, 500, 502, 503 or 504 repeated up to the deadline. A negative
// Retry.MaxRetries makes one try.
func ClientOptions(o policy.ClientOptions) policy.ClientOptions {
	if o.Transport == nil {
		o.Transport = NewTransport(nil)
	}
	if o.Retry.MaxRetries == 0 {
		o.Retry.MaxRetries = maxRetries
	}
	return o
}

// Bound gives an operation its deadline; d is Deadline when 0.
func Bound(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d == 0 {
		d = Deadline
	}
	return context.WithTimeout(ctx, d)
}
