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
//
// Life of a plan: Resources lists what a party's volumes need in the cloud, in the
// order in which it is made: the vault, where one is to be made; the KEK, the release role on exactly that key, the
// wrapped DEK, the role on exactly that secret, the container, and the role on
// exactly that container. Status looks at each; Apply makes what is missing and
// looks first, so that a run that was interrupted anywhere is gone on with;
// Destroy takes roles, and keys and data if asked, and says what it left.
package provision

import (
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
	// Manager is the management plane, for what is more than a key and a secret;
	// HSMScope is what a token for a Managed HSM is asked for.
	Manager  Manager
	HSMScope string
	// Directory is for applications that stand for identities of other tenants.
	Directory Directory
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
