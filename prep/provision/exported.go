package provision

import "context"

// Manage sends a request to the management plane, as the client's identity: in as
// JSON if it is not nil; the answer into out, if that is not. Any other answer than
// 2xx is an *azcore.ResponseError, for Explain.
func (c *Client) Manage(ctx context.Context, method, path, version string, in, out any) error {
	return c.manage(ctx, method, path, version, in, out)
}

// Subscription is the one that is managed.
func (c *Client) Subscription() string { return c.opts.Manager.Subscription }

// Explain classifies what a service answered while doing something to a named
// resource, and says what is missing; role is the one that allows it.
func Explain(err error, doing, role string) error { return explain(err, doing, role) }

// IsNotFound tells whether a service answered that a resource is not there.
func IsNotFound(err error) bool { return isNotFound(err) }
