// Package provision is the owner's side of the keys: a KEK that an HSM releases
// only under the policy the parties agreed on, and a DEK wrapped with its
// public half.
//
// Life of a key: ApplyKEK looks for the KEK, makes or imports it exportable
// under the release policy where it is not there, and otherwise holds what is
// there against what is wanted. ApplyDEK wraps a volume's DEK with the public
// half and stores the envelope as a secret, unless the same is stored already.
// Applying the same again changes nothing; applying something else is refused
// with the difference, because a party may already rely on what is there.
package provision

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"cloister/internal/fault"
)

// Options configure a Client. Credential is the owner's and required.
type Options struct {
	Credential azcore.TokenCredential
	Client     policy.ClientOptions
	// PrivateCloud says that the vaults are not at one of Azure's domains, so
	// that the SDK cannot know which resource a token must be for.
	PrivateCloud bool
}

// Client provisions keys. It is safe for concurrent use.
type Client struct{ opts Options }

// New returns a client; nothing is asked yet.
func New(o Options) *Client { return &Client{opts: o} }

// checkVault admits https://HOST[:PORT].
func checkVault(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" {
		return fault.Errorf(fault.Usage, "write it as https://HOST", "%q is not a vault's address", address)
	}
	return nil
}

// answerError classifies what a vault, or the way to it, answered.
func answerError(err error, doing, role string) error {
	var resp *azcore.ResponseError
	if !errors.As(err, &resp) {
		return fault.Errorf(fault.Unavailable, "check the vault's address, and sign in", "%s: %w", doing, err)
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return fault.Errorf(fault.Denied, "ask for the role "+role, "%s: %w", doing, err)
	case resp.StatusCode == http.StatusConflict:
		return fault.Errorf(fault.Conflict, "recover or purge the deleted one, or choose another name", "%s: %w", doing, err)
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return fault.Errorf(fault.Unavailable, "", "%s: %w", doing, err)
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}

func isNotFound(err error) bool {
	var resp *azcore.ResponseError
	return errors.As(err, &resp) && resp.StatusCode == http.StatusNotFound
}
