// Package vault fetches keys from Azure Key Vault and Managed HSM: a wrapped
// DEK, which is a secret's value, and the KEK that opens it, which the vault
// releases only to a machine whose attestation token meets the key's policy.
//
// Life of a KEK: NewReleaseKey makes an RSA pair that lives as long as this
// start; its public half travels in the attestation token. Release shows the
// token to the vault and gets the KEK wrapped to that public half, inside a
// statement signed by the vault. The statement is verified to its roots and
// compared with what was asked and agreed before anything is unwrapped; the KEK
// opens one wrapped DEK and is destroyed.
package vault

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"cloister/enclave/azure"
	"cloister/enclave/envelope"
	"cloister/internal/fault"
)

// Options configure a Client. Credential is required.
type Options struct {
	Credential azcore.TokenCredential
	Client     policy.ClientOptions // a nil Transport is azure.NewTransport(nil)
	// Roots end the certificate chain under a release's signature; nil is the
	// system's. They are apart from TLS, which may end at a proxy.
	Roots *x509.CertPool
	// PrivateCloud says that the vaults are not at one of Azure's domains, so
	// that the SDK cannot know which resource a token must be for.
	PrivateCloud bool
	// Deadline bounds each request with all its tries; 0 is azure.Deadline.
	Deadline time.Duration
}

// Client asks vaults. It is safe for concurrent use.
type Client struct {
	opts Options
	now  func() time.Time

	mu      sync.Mutex // guards the clients, by vault
	keys    map[string]*azkeys.Client
	secrets map[string]*azsecrets.Client

	keysSignIn, secretsSignIn *signIn
}

// New returns a client; nothing is asked yet.
func New(o Options) *Client {
	o.Client = azure.ClientOptions(o.Client)
	c := &Client{opts: o, now: time.Now, keys: map[string]*azkeys.Client{}, secrets: map[string]*azsecrets.Client{},
		keysSignIn: &signIn{}, secretsSignIn: &signIn{}}
	if o.PrivateCloud {
		c.keysSignIn.private, c.secretsSignIn.private = hsmAudience, vaultAudience
	}
	return c
}

// ID names a secret or key: https://VAULT/secrets/NAME[/VERSION] or
// https://VAULT/keys/NAME[/VERSION].
type ID struct {
	Vault   string // https://HOST[:PORT]
	Name    string
	Version string // "" is the newest
}

// ParseID reads the address of a thing of a collection, "secrets" or "keys".
func ParseID(collection, address string) (ID, error) {
	bad := fault.Errorf(fault.Usage, "write it as https://VAULT/"+collection+"/NAME[/VERSION]",
		"%q is not the address of a vault's %s", address, strings.TrimSuffix(collection, "s"))
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return ID{}, bad
	}
	parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] != collection || !isName(parts[1]) {
		return ID{}, bad
	}
	id := ID{Vault: "https://" + u.Host, Name: parts[1]}
	if len(parts) == 3 {
		if id.Version = parts[2]; !isName(id.Version) {
			return ID{}, bad
		}
	}
	return id, nil
}

// isName admits what vaults admit in names and versions.
func isName(s string) bool {
	return s != "" && len(s) <= 127 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-')
	})
}

// WrappedDEK fetches a secret's value. It is ciphertext, and whoever may write
// the secret chose it: envelope.Open decides.
func (c *Client) WrappedDEK(ctx context.Context, address string) ([]byte, error) {
	id, err := ParseID("secrets", address)
	if err != nil {
		return nil, err
	}
	client, err := c.secretClient(id.Vault)
	if err != nil {
		return nil, err
	}
	ctx, cancel := azure.Bound(ctx, c.opts.Deadline)
	defer cancel()
	resp, err := client.GetSecret(ctx, id.Name, id.Version, nil)
	if err != nil {
		return nil, answerError(err, "fetching the wrapped DEK "+address, "give the runtime's identity the role Key Vault Secrets User")
	}
	if resp.Value == nil || len(*resp.Value) > envelope.MaxSize {
		return nil, fault.Errorf(fault.Refused, "provision the volume's key again", "the secret %s does not hold a wrapped DEK", address)
	}
	return []byte(*resp.Value), nil
}

func (c *Client) secretClient(vault string) (*azsecrets.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if client := c.secrets[vault]; client != nil {
		return client, nil
	}
	client, err := azsecrets.NewClient(vault, c.opts.Credential, &azsecrets.ClientOptions{
		ClientOptions: c.secretsSignIn.with(c.opts.Client), DisableChallengeResourceVerification: c.opts.PrivateCloud,
	})
	if err == nil {
		c.secrets[vault] = client
	}
	return client, err
}

func (c *Client) keyClient(vault string) (*azkeys.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if client := c.keys[vault]; client != nil {
		return client, nil
	}
	client, err := azkeys.NewClient(vault, c.opts.Credential, &azkeys.ClientOptions{
		ClientOptions: c.keysSignIn.with(c.opts.Client), DisableChallengeResourceVerification: c.opts.PrivateCloud,
	})
	if err == nil {
		c.keys[vault] = client
	}
	return client, err
}

// answerError classifies what a vault, or the way to it, answered.
func answerError(err error, doing, deniedHint string) error {
	var resp *azcore.ResponseError
	if !errors.As(err, &resp) {
		return fault.Errorf(fault.Unavailable, azure.ReachHint(err), "%s: %w", doing, err)
	}
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return fault.Errorf(fault.NotFound, "provision the volume's key with the owner's tools", "%s: %w", doing, azure.OneLine(err))
	case resp.StatusCode == http.StatusUnauthorized:
		return fault.Errorf(fault.Denied, "compare this machine's clock with the vault's, and see whether its tokens are from the vault's own directory", "%s: %w", doing, azure.OneLine(err))
	case resp.StatusCode == http.StatusForbidden:
		return fault.Errorf(fault.Denied, deniedHint, "%s: %w", doing, azure.OneLine(err))
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return fault.Errorf(fault.Unavailable, "try again later", "%s: %w", doing, azure.OneLine(err))
	default:
		return fault.Errorf(fault.Refused, "", "%s: %w", doing, azure.OneLine(err))
	}
}
