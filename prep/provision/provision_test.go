package provision

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"cloister/enclave/azure"
	"cloister/enclave/envelope"
	"cloister/internal/fault"
	"cloister/internal/localcloud"
	"cloister/internal/localcloud/cloudtest"
	"cloister/policy/release"
)

func TestMain(m *testing.M) { cloudtest.Main(m) }

// newClient signs in as the owner, by federation: nothing of the environment
// is used.
func newClient(t *testing.T) (*Client, localcloud.Endpoints) {
	t.Helper()
	c, roots := cloudtest.Cloud(t)
	id, err := c.AddIdentity("owner")
	if err != nil {
		t.Fatal(err)
	}
	opts := policy.ClientOptions{Transport: azure.NewTransport(roots), Retry: policy.RetryOptions{MaxRetries: -1}}
	opts.Cloud.ActiveDirectoryAuthorityHost = c.Endpoints().Authority
	cred, err := azidentity.NewClientAssertionCredential(c.Endpoints().Tenant, id.ClientID,
		func(context.Context) (string, error) { return c.FederatedToken("owner") },
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: opts, DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{Credential: cred, Client: opts, PrivateCloud: true}), c.Endpoints()
}

const policyText = `{"version":"1.0.0","anyOf":[{"authority":"https://maa.example","allOf":[{"claim":"a","equals":"1"},{"claim":"b","equals":"2"}]}]}`

func parsePolicy(t *testing.T, text string) release.Policy {
	t.Helper()
	p, err := release.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func wantConflict(t *testing.T, err error, text string) {
	t.Helper()
	if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v (%v), want a conflict with %q", err, fault.KindOf(err), text)
	}
}

func TestKEKIsMadeOnce(t *testing.T) {
	c, e := newClient(t)
	for _, vault := range []string{e.HSM, e.Vault} {
		k := KEK{Vault: vault, Name: "made-once", Policy: parsePolicy(t, policyText)}
		first, err := c.ApplyKEK(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		second, err := c.ApplyKEK(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		if !first.Changed || second.Changed || first.ID != second.ID || first.Public.N.BitLen() != 3072 {
			t.Errorf("%+v, then %+v", first, second)
		}
		k.Policy = parsePolicy(t, strings.Replace(policyText, `"2"`, `"3"`, 1))
		k.Bits, k.Mutable = 2048, true
		_, err = c.ApplyKEK(t.Context(), k)
		wantConflict(t, err, `it has 3072 bits, not 2048; its release policy's immutability is true, not false; `+
			`its release policy differs: has b equals "2", lacks b equals "3"`)
	}
}

func TestKEKIsImportedOnce(t *testing.T) {
	c, e := newClient(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	k := KEK{Vault: e.HSM, Name: "imported", Policy: parsePolicy(t, policyText), Import: key}
	first, err := c.ApplyKEK(t.Context(), k)
	if err != nil || !first.Changed || !first.Public.Equal(&key.PublicKey) {
		t.Fatalf("%+v, %v", first, err)
	}
	if second, err := c.ApplyKEK(t.Context(), k); err != nil || second.Changed {
		t.Errorf("%+v, %v", second, err)
	}
	if k.Import, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	_, err = c.ApplyKEK(t.Context(), k)
	wantConflict(t, err, "it is not the key to import")
	if err := key.Validate(); err != nil {
		t.Errorf("importing spoilt the caller's key: %v", err)
	}
}

// The vault itself must not be a way around attestation.
func TestKEKOnlyWrapsInTheVault(t *testing.T) {
	c, e := newClient(t)
	if _, err := c.ApplyKEK(t.Context(), KEK{Vault: e.HSM, Name: "wraps", Policy: parsePolicy(t, policyText), Bits: 2048}); err != nil {
		t.Fatal(err)
	}
	key := getKey(t, c, e.HSM, "wraps")
	ops := ""
	for _, op := range key.Key.KeyOps {
		ops += string(*op) + " "
	}
	if strings.Contains(ops, "decrypt") || strings.Contains(ops, "unwrapKey") || !*key.Attributes.Exportable || !*key.ReleasePolicy.Immutable {
		t.Errorf("operations %q, exportable %v, immutable %v", ops, *key.Attributes.Exportable, *key.ReleasePolicy.Immutable)
	}
}

func keys(t *testing.T, c *Client, vault string) *azkeys.Client {
	t.Helper()
	client, err := azkeys.NewClient(vault, c.opts.Credential, &azkeys.ClientOptions{ClientOptions: c.opts.Client, DisableChallengeResourceVerification: true})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func getKey(t *testing.T, c *Client, vault, name string) azkeys.KeyBundle {
	t.Helper()
	resp, err := keys(t, c, vault).GetKey(t.Context(), name, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp.KeyBundle
}

// Keys that somebody else made.
func TestForeignKeysAreNotUsed(t *testing.T) {
	c, e := newClient(t)
	k := KEK{Vault: e.HSM, Policy: parsePolicy(t, policyText), Bits: 2048}
	for name, tc := range map[string]struct {
		params azkeys.CreateKeyParameters
		want   string
	}{
		"plain": {azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), KeySize: to.Ptr(int32(2048))},
			"it is not exportable; it has no release policy"},
		"elliptic": {azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeECHSM), Curve: to.Ptr(azkeys.CurveNameP256)},
			"it is of type EC-HSM, not RSA"},
	} {
		k.Name = "foreign-" + name
		if _, err := keys(t, c, e.HSM).CreateKey(t.Context(), k.Name, tc.params, nil); err != nil {
			t.Fatal(err)
		}
		_, err := c.ApplyKEK(t.Context(), k)
		wantConflict(t, err, tc.want)
	}
	k.Name = "deleted"
	if _, err := c.ApplyKEK(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	if _, err := keys(t, c, e.HSM).DeleteKey(t.Context(), k.Name, nil); err != nil {
		t.Fatal(err)
	}
	_, err := c.ApplyKEK(t.Context(), k)
	wantConflict(t, err, "provisioning the KEK deleted in ")
}

func TestKEKsThatCannotBe(t *testing.T) {
	c, e := newClient(t)
	good := KEK{Vault: e.HSM, Name: "k", Policy: parsePolicy(t, policyText)}
	for name, change := range map[string]func(*KEK){
		"no name":      func(k *KEK) { k.Name = "" },
		"bits":         func(k *KEK) { k.Bits = 1024 },
		"no policy":    func(k *KEK) { k.Policy = release.Policy{} },
		"vault":        func(k *KEK) { k.Vault = "http://vault.example" },
		"vault's path": func(k *KEK) { k.Vault = "https://vault.example/keys" },
	} {
		k := good
		change(&k)
		if _, err := c.ApplyKEK(t.Context(), k); err == nil || fault.KindOf(err) == fault.Internal {
			t.Errorf("%s: %v (%v)", name, err, fault.KindOf(err))
		}
	}
}

func TestDEKIsStoredOnce(t *testing.T) {
	c, e := newClient(t)
	kek, err := c.ApplyKEK(t.Context(), KEK{Vault: e.HSM, Name: "for-deks", Policy: parsePolicy(t, policyText), Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	dek, err := envelope.NewDEK(slices.Repeat([]byte{5}, envelope.DEKSize))
	if err != nil {
		t.Fatal(err)
	}
	w := WrappedDEK{Vault: e.Vault, Name: "dek", VolumeID: [16]byte{1}, KeyVersion: 2, DEK: dek}
	first, err := c.ApplyDEK(t.Context(), w, kek)
	if err != nil || !first.Changed {
		t.Fatalf("%+v, %v", first, err)
	}
	if second, err := c.ApplyDEK(t.Context(), w, kek); err != nil || second.Changed || second.ID != first.ID {
		t.Errorf("%+v, %v", second, err)
	}
	for _, tc := range []struct {
		change func(*WrappedDEK)
		want   string
	}{
		{func(w *WrappedDEK) { w.VolumeID[0] = 2 }, "holds the DEK of volume 0100"},
		{func(w *WrappedDEK) { w.KeyVersion = 1 }, "holds key version 2, newer than 1"},
		{func(w *WrappedDEK) { w.DEK, _ = envelope.NewDEK(make([]byte, envelope.DEKSize)) }, "holds another DEK of volume 0100"},
	} {
		other := w
		tc.change(&other)
		_, err := c.ApplyDEK(t.Context(), other, kek)
		wantConflict(t, err, tc.want)
	}
	rotated := *kek
	rotated.ID += "0"
	if third, err := c.ApplyDEK(t.Context(), w, &rotated); err != nil || !third.Changed {
		t.Errorf("another KEK version: %+v, %v", third, err)
	}
	storeSecret(t, c, e.Vault, "taken", "a password")
	w.Name = "taken"
	_, err = c.ApplyDEK(t.Context(), w, kek)
	wantConflict(t, err, "holds something else")
}

func storeSecret(t *testing.T, c *Client, vault, name, value string) {
	t.Helper()
	client, err := azsecrets.NewClient(vault, c.opts.Credential, &azsecrets.ClientOptions{ClientOptions: c.opts.Client, DisableChallengeResourceVerification: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.SetSecret(t.Context(), name, azsecrets.SetSecretParameters{Value: &value}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestDifferenceShowsRegrouping(t *testing.T) {
	have := parsePolicy(t, policyText)
	want := parsePolicy(t, strings.Replace(policyText, "allOf", "anyOf", 1))
	if got := difference(have, want); !strings.Contains(got, "has authority ") || !strings.Contains(got, "lacks authority ") {
		t.Errorf("got %s", got)
	}
	// Who meets the first alternative meets the whole: the same tokens, written
	// otherwise.
	implied := strings.Replace(policyText, `"allOf":[`, `"allOf":[{"anyOf":[{"claim":"a","equals":"b"},{"allOf":[{"claim":"a","equals":"b"},{"claim":"c","equals":"d"}]}]},`, 1)
	single := strings.Replace(policyText, `"allOf":[`, `"allOf":[{"claim":"a","equals":"b"},`, 1)
	if got := difference(parsePolicy(t, implied), parsePolicy(t, single)); !strings.Contains(got, `has {`) || !strings.Contains(got, "lacks {") {
		t.Errorf("got %s", got)
	}
}
