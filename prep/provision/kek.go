package provision

import (
	"context"
	"crypto/rsa"
	"fmt"
	"math/big"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"cloister/internal/fault"
	"cloister/policy/release"
)

// defaultBits is the modulus of a KEK: RSA-3072 is as strong as AES-128.
const defaultBits = 3072

// KEK says what key there shall be. Vault, Name and Policy are required.
type KEK struct {
	Vault  string // https://HOST of a Managed HSM or a Key Vault Premium
	Name   string
	Policy release.Policy
	// Mutable lets the vault's administrators change the policy later. Without
	// it the policy holds for ever.
	Mutable bool
	Bits    int             // 2048, 3072 or 4096; 0 is 3072
	Import  *rsa.PrivateKey // brought along; nil has the HSM make one
}

// AppliedKEK is a KEK that is as wanted.
type AppliedKEK struct {
	ID      string // with the version
	Public  *rsa.PublicKey
	Changed bool // false when it was there already
}

// kekRole is what an owner needs for a KEK.
const kekRole = "Managed HSM Crypto User or Key Vault Crypto Officer"

func (c *Client) keys(vault string) (*azkeys.Client, error) {
	return azkeys.NewClient(vault, c.opts.Credential, &azkeys.ClientOptions{
		ClientOptions: c.opts.Client, DisableChallengeResourceVerification: c.opts.PrivateCloud,
	})
}

// ApplyKEK sees to it that the KEK is there. One that is there but otherwise is
// of kind fault.Conflict, with every difference named.
func (c *Client) ApplyKEK(ctx context.Context, k KEK) (*AppliedKEK, error) {
	return c.kekOf(ctx, k, true)
}

// FindKEK is ApplyKEK that makes nothing: nil where there is none.
func (c *Client) FindKEK(ctx context.Context, k KEK) (*AppliedKEK, error) {
	return c.kekOf(ctx, k, false)
}

func (c *Client) kekOf(ctx context.Context, k KEK, make bool) (*AppliedKEK, error) {
	doing := fmt.Sprintf("provisioning the KEK %s in %s", k.Name, k.Vault)
	if err := k.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	client, err := c.keys(k.Vault)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	changed := false
	found, err := client.GetKey(ctx, k.Name, "", nil)
	bundle := found.KeyBundle
	if isNotFound(err) {
		if !make {
			return nil, nil
		}
		changed = true
		bundle, err = k.make(ctx, client)
	}
	if err != nil {
		return nil, explain(err, doing, kekRole)
	}
	public, err := k.compare(bundle)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return &AppliedKEK{ID: string(*bundle.Key.KID), Public: public, Changed: changed}, nil
}

// deleteKEK soft-deletes the key; one that is not there is not an error.
func (c *Client) deleteKEK(ctx context.Context, k KEK) error {
	client, err := c.keys(k.Vault)
	if err != nil {
		return err
	}
	if _, err := client.DeleteKey(ctx, k.Name, nil); err != nil && !isNotFound(err) {
		return explain(err, fmt.Sprintf("deleting the KEK %s in %s", k.Name, k.Vault), kekRole)
	}
	return nil
}

func (k *KEK) check() error {
	if k.Bits == 0 {
		k.Bits = defaultBits
	}
	if k.Import != nil {
		k.Bits = k.Import.N.BitLen()
	}
	switch {
	case k.Name == "":
		return fault.Errorf(fault.Usage, "", "the key has no name")
	case k.Bits != 2048 && k.Bits != 3072 && k.Bits != 4096:
		return fault.Errorf(fault.Usage, "use 2048, 3072 or 4096", "an HSM makes no RSA keys of %d bits", k.Bits)
	}
	if k.Import != nil && len(k.Import.Primes) != 2 {
		return fault.Errorf(fault.Usage, "", "the RSA key to import has %d primes, not 2", len(k.Import.Primes))
	}
	// Parsing what would be sent refuses the empty policy too.
	if _, err := release.Parse(k.Policy.Canonical()); err != nil {
		return fmt.Errorf("the release policy: %w", err)
	}
	return checkVault(k.Vault)
}

// make creates or imports the key. It may wrap and never unwrap: the only way
// to the private half is an attested release.
func (k *KEK) make(ctx context.Context, client *azkeys.Client) (azkeys.KeyBundle, error) {
	ops := []*azkeys.KeyOperation{to.Ptr(azkeys.KeyOperationEncrypt), to.Ptr(azkeys.KeyOperationWrapKey)}
	attributes := &azkeys.KeyAttributes{Exportable: to.Ptr(true)}
	policy := &azkeys.KeyReleasePolicy{EncodedPolicy: k.Policy.Canonical(), Immutable: to.Ptr(!k.Mutable)}
	if k.Import != nil {
		jwk := privateJWK(k.Import)
		defer wipeJWK(jwk)
		jwk.KeyOps = ops
		resp, err := client.ImportKey(once(ctx), k.Name, azkeys.ImportKeyParameters{
			HSM: to.Ptr(true), Key: jwk, KeyAttributes: attributes, ReleasePolicy: policy,
		}, nil)
		return resp.KeyBundle, err
	}
	resp, err := client.CreateKey(once(ctx), k.Name, azkeys.CreateKeyParameters{
		Kty: to.Ptr(azkeys.KeyTypeRSAHSM), KeySize: to.Ptr(int32(k.Bits)), KeyOps: ops,
		KeyAttributes: attributes, ReleasePolicy: policy,
	}, nil)
	return resp.KeyBundle, err
}

func privateJWK(key *rsa.PrivateKey) *azkeys.JSONWebKey {
	key.Precompute()
	return &azkeys.JSONWebKey{
		Kty: to.Ptr(azkeys.KeyTypeRSAHSM),
		N:   key.N.Bytes(), E: big.NewInt(int64(key.E)).Bytes(), D: key.D.Bytes(),
		P: key.Primes[0].Bytes(), Q: key.Primes[1].Bytes(),
		DP: key.Precomputed.Dp.Bytes(), DQ: key.Precomputed.Dq.Bytes(), QI: key.Precomputed.Qinv.Bytes(),
	}
}

func wipeJWK(jwk *azkeys.JSONWebKey) {
	for _, part := range [][]byte{jwk.D, jwk.P, jwk.Q, jwk.DP, jwk.DQ, jwk.QI} {
		clear(part)
	}
}

// disabled is what a KEK that was revoked differs in.
const disabled = "it is disabled"

// compare holds the vault's key against the wanted one and returns its public
// half.
func (k *KEK) compare(b azkeys.KeyBundle) (*rsa.PublicKey, error) {
	if b.Key == nil || b.Key.KID == nil || b.Key.Kty == nil {
		return nil, fault.Errorf(fault.Refused, "", "the vault's answer names no key")
	}
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(b.Key.N), E: int(new(big.Int).SetBytes(b.Key.E).Int64())}
	var wrong []string
	add := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	add(*b.Key.Kty != azkeys.KeyTypeRSA && *b.Key.Kty != azkeys.KeyTypeRSAHSM, "it is of type %s, not RSA", *b.Key.Kty)
	add(public.N.BitLen() != k.Bits, "it has %d bits, not %d", public.N.BitLen(), k.Bits)
	add(k.Import != nil && !public.Equal(&k.Import.PublicKey), "it is not the key to import")
	add(b.Attributes == nil || b.Attributes.Exportable == nil || !*b.Attributes.Exportable, "it is not exportable")
	add(b.Attributes != nil && b.Attributes.Enabled != nil && !*b.Attributes.Enabled, disabled)
	wrong = append(wrong, k.comparePolicy(b.ReleasePolicy)...)
	if wrong != nil {
		hint := "choose another name for the KEK: after an amendment, in the specification, as a KEK keeps its policy for ever; or agree on the policy that is there"
		if len(wrong) == 1 && wrong[0] == disabled {
			hint = "cloister provision revoke --undo enables it"
		}
		return nil, fault.Errorf(fault.Conflict, hint, "the vault's key is not the one wanted: %s", strings.Join(wrong, "; "))
	}
	return public, nil
}

func (k *KEK) comparePolicy(p *azkeys.KeyReleasePolicy) (wrong []string) {
	if p == nil {
		return []string{"it has no release policy"}
	}
	if immutable := p.Immutable != nil && *p.Immutable; immutable == k.Mutable {
		wrong = append(wrong, fmt.Sprintf("its release policy's immutability is %t, not %t", immutable, !k.Mutable))
	}
	have, err := release.Parse(p.EncodedPolicy)
	if err != nil {
		return append(wrong, fmt.Sprintf("its release policy cannot be read: %v", err))
	}
	if !release.Equal(have, k.Policy) {
		wrong = append(wrong, "its release policy differs: "+difference(have, k.Policy))
	}
	return wrong
}

// difference says what only one of two policies has, the present one first. Where
// all that differs is the writing of alternatives, both are shown whole.
func difference(have, want release.Policy) string {
	list, err := release.Diff(have, want)
	if err != nil || len(list) == 0 {
		return fmt.Sprintf("has %s, lacks %s", have.Canonical(), want.Canonical())
	}
	var parts []string
	for _, d := range list {
		parts = append(parts, map[string]string{"first": "has ", "second": "lacks "}[d.OnlyIn]+d.What)
	}
	return strings.Join(parts, ", ")
}
