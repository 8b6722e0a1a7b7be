package vault

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"cloister/enclave/attest"
	"cloister/enclave/azure"
	"cloister/internal/fault"
	"cloister/policy/release"
)

// Request names the KEK and the policy under which the parties agreed that it
// is released. All but Wrap is required.
type Request struct {
	KEK    ID
	Policy release.Policy // the contract's copy
	Wrap   Wrap           // "" is WrapCKM
}

// Release has the vault release a KEK to this start's release key. A refusal by
// the key's policy is of kind fault.Refused and names each condition of the
// contract's copy that the token does not meet, because the runtime's role may
// not read the vault's own copy.
func (c *Client) Release(ctx context.Context, r Request, token *attest.Token, key *ReleaseKey) (*KEK, error) {
	if r.Wrap == "" {
		r.Wrap = WrapCKM
	}
	doing := fmt.Sprintf("releasing the KEK %s of %s", r.KEK.Name, r.KEK.Vault)
	client, err := c.keyClient(r.KEK.Vault)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	asked := expectedRelease{request: r, nonce: base64.RawURLEncoding.EncodeToString(nonce), key: key}
	ctx, cancel := azure.Bound(ctx, c.opts.Deadline)
	defer cancel()
	resp, err := client.Release(ctx, r.KEK.Name, r.KEK.Version, azkeys.ReleaseParameters{
		TargetAttestationToken: to.Ptr(token.Raw()),
		Algorithm:              to.Ptr(azkeys.KeyEncryptionAlgorithm(r.Wrap)),
		Nonce:                  to.Ptr(asked.nonce),
	}, nil)
	if err != nil {
		return nil, releaseError(err, doing, r, token)
	}
	if resp.Value == nil {
		return nil, fault.Errorf(fault.Refused, "", "%s: the vault's answer is empty", doing)
	}
	kek, err := c.open(*resp.Value, asked)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return kek, nil
}

// releaseError turns a 403 into what the container lacks.
func releaseError(err error, doing string, r Request, token *attest.Token) error {
	const hint = "give the runtime's identity the role Managed HSM Crypto Service Release User or Key Vault Crypto Service Release User"
	var resp *azcore.ResponseError
	if !errors.As(err, &resp) || resp.StatusCode != http.StatusForbidden {
		return answerError(err, doing, hint)
	}
	if state, ok := unusable(resp); ok {
		return fault.Errorf(fault.Refused, "have the key's owner enable or renew it, and provision the volume's key again", "%s: %s: %w", doing, state, azure.OneLine(err))
	}
	claims, parseErr := release.ParseClaims(token.Claims)
	if parseErr != nil {
		return parseErr
	}
	decision := r.Policy.Evaluate(map[string]release.Claims{token.Authority: claims})
	if decision.Met {
		return fault.Errorf(fault.Refused, hint+"; or ask the key's owner under which policy the vault holds it",
			"%s: the vault refuses although the contract's copy of the release policy is met: %w", doing, azure.OneLine(err))
	}
	return fault.Errorf(fault.Refused, "", "%s: the vault refuses: %w", doing, decision.Err())
}

// unusable says of a refusal that is about the key itself and not about who asks
// what it is about.
func unusable(resp *azcore.ResponseError) (state string, ok bool) {
	state, ok = map[string]string{
		"KeyExpired": "the key has expired", "KeyNotYetValid": "the key is not valid yet", "KeyDisabled": "the key is disabled",
	}[azure.ErrorBody(resp).Inner.Code]
	return state, ok
}

// sameKey reports whether a key identifier is the one asked for: same vault,
// same name, and the same version where one was asked.
func sameKey(kid string, want ID) bool {
	got, err := ParseID("keys", kid)
	return err == nil && strings.EqualFold(got.Vault, want.Vault) && strings.EqualFold(got.Name, want.Name) &&
		(want.Version == "" || got.Version == want.Version)
}
