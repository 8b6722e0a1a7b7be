package provision

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// rest is a client of the two services for which there is no SDK here that is
// light enough, or none at all: the management plane, and a Managed HSM's role
// assignments.
type rest struct{ pipeline runtime.Pipeline }

func newREST(credential azcore.TokenCredential, scope string, o policy.ClientOptions) rest {
	return rest{runtime.NewPipeline("cloister", "v1", runtime.PipelineOptions{
		PerRetry: []policy.Policy{runtime.NewBearerTokenPolicy(credential, []string{scope}, nil)},
	}, &o)}
}

// do sends in as JSON, if it is not nil, and reads the answer into out, if that
// is not. Any other answer than 2xx is an *azcore.ResponseError.
func (r rest) do(ctx context.Context, method, url string, in, out any) error {
	req, err := runtime.NewRequest(ctx, method, url)
	if err != nil {
		return err
	}
	if in != nil {
		if err := runtime.MarshalAsJSON(req, in); err != nil {
			return err
		}
	}
	resp, err := r.pipeline.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return runtime.NewResponseError(resp)
	}
	body, err := runtime.Payload(resp)
	if err != nil || out == nil || resp.StatusCode == http.StatusNoContent {
		return err
	}
	return json.Unmarshal(body, out)
}

// once has a request of the SDK's sent again only where the service said that it
// did nothing. Making a key or a secret twice makes two versions of it: where the
// answer was lost, the caller must look before it makes another.
func once(ctx context.Context) context.Context {
	return policy.WithRetryOptions(ctx, policy.RetryOptions{ShouldRetry: func(resp *http.Response, err error) bool {
		return err == nil && resp.StatusCode == http.StatusTooManyRequests
	}})
}
