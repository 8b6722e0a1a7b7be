//go:build !production

package azurekeys_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"cloister/enclave/attest"
	"cloister/enclave/envelope"
	"cloister/enclave/snp"
	"cloister/enclave/snp/simulated"
	"cloister/enclave/vault"
	"cloister/internal/fault"
	"cloister/internal/localcloud/platform"
	"cloister/policy/release"
)

// prove has the guest attested for a new release key.
func (w *world) prove(t *testing.T) (*vault.ReleaseKey, *attest.Token) {
	t.Helper()
	key, err := vault.NewReleaseKey(vault.ReleaseKeyBits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Destroy)
	data, err := key.RuntimeData()
	if err != nil {
		t.Fatal(err)
	}
	evidence, err := snp.Collect(t.Context(), simulated.New(w.guest), snp.KeyRelease{RuntimeData: data})
	if err != nil {
		t.Fatal(err)
	}
	service, err := attest.New(attest.Options{Authority: w.cloud.Endpoints().Attestation, Skew: time.Minute, Client: w.clientOptions()})
	if err != nil {
		t.Fatal(err)
	}
	token, err := service.Attest(t.Context(), evidence, data)
	if err != nil {
		t.Fatal(err)
	}
	return key, token
}

// owner is a client of a vault that makes keys.
func (w *world) owner(t *testing.T, address string) *azkeys.Client {
	t.Helper()
	credential, err := w.as(t, "owner").Credential()
	if err != nil {
		t.Fatal(err)
	}
	client, err := azkeys.NewClient(address, credential, &azkeys.ClientOptions{ClientOptions: w.clientOptions(), DisableChallengeResourceVerification: true})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// runtime is the runtime's client of all vaults.
func (w *world) runtime(t *testing.T) *vault.Client {
	t.Helper()
	credential, err := w.as(t, "runtime").Credential()
	if err != nil {
		t.Fatal(err)
	}
	return vault.New(vault.Options{Credential: credential, Client: w.clientOptions(), Roots: w.roots, PrivateCloud: true})
}

// keyOf is a key to import, and how a released one is told to be it.
type keyOf struct {
	jwk  azkeys.JSONWebKey
	same func(*vault.KEK) error
}

func rsaKey(t *testing.T, bits int) keyOf {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	dek, id := make([]byte, envelope.DEKSize), [16]byte{0xa1}
	dek[0] = 7
	// As Azure clean room stores it.
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, dek, nil)
	if err != nil {
		t.Fatal(err)
	}
	wrapped := base64.StdEncoding.AppendEncode(nil, sealed)
	jwk := azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), N: key.N.Bytes(), E: big.NewInt(int64(key.E)).Bytes(), D: key.D.Bytes(),
		P: key.Primes[0].Bytes(), Q: key.Primes[1].Bytes(), DP: key.Precomputed.Dp.Bytes(), DQ: key.Precomputed.Dq.Bytes(), QI: key.Precomputed.Qinv.Bytes()}
	return keyOf{jwk, func(kek *vault.KEK) error {
		got, err := kek.Unwrap(wrapped, envelope.Expected{VolumeID: id, KeyVersion: 1, CheckValue: envelope.CheckValue(dek, id)})
		if err == nil && got.Bytes()[0] != 7 {
			err = fmt.Errorf("another DEK came out")
		}
		return err
	}}
}

func ecKey(t *testing.T, curve elliptic.Curve) keyOf {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	half := (len(point) - 1) / 2
	scalar, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	jwk := azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeECHSM), Crv: to.Ptr(azkeys.CurveName(curve.Params().Name)),
		X: point[1 : 1+half], Y: point[1+half:], D: scalar}
	return keyOf{jwk, func(kek *vault.KEK) error {
		if kek.EC() == nil || !kek.EC().Equal(key) {
			return fmt.Errorf("another key came out")
		}
		return nil
	}}
}

func octKey(t *testing.T, bits int) keyOf {
	key := make([]byte, bits/8)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	return keyOf{azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeOctHSM), K: key}, func(kek *vault.KEK) error {
		if string(kek.Bytes()) != string(key) {
			return fmt.Errorf("another key came out")
		}
		return nil
	}}
}

// TestEveryKeyFromEveryVaultByEveryWrap: what the owner imports is what the
// runtime gets in hand, and Destroy zeroes it.
func TestEveryKeyFromEveryVaultByEveryWrap(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	e := w.cloud.Endpoints()
	releaseKey, token := w.prove(t)
	keys := map[string]keyOf{
		"rsa2048": rsaKey(t, 2048), "rsa3072": rsaKey(t, 3072), "rsa4096": rsaKey(t, 4096),
		"p256": ecKey(t, elliptic.P256()), "p384": ecKey(t, elliptic.P384()), "p521": ecKey(t, elliptic.P521()),
		"oct128": octKey(t, 128), "oct192": octKey(t, 192), "oct256": octKey(t, 256),
	}
	policy := &azkeys.KeyReleasePolicy{EncodedPolicy: w.agreed(t).Canonical(), Immutable: to.Ptr(true)}
	released := 0
	for kind, address := range map[string]string{"vault": e.Vault, "hsm": e.HSM} {
		admin := w.owner(t, address)
		for name, key := range keys {
			if kind == "vault" && key.jwk.K != nil {
				continue // Key Vault has no symmetric keys
			}
			if _, err := admin.ImportKey(t.Context(), "m"+name, azkeys.ImportKeyParameters{Key: &key.jwk, HSM: to.Ptr(true),
				KeyAttributes: &azkeys.KeyAttributes{Exportable: to.Ptr(true)}, ReleasePolicy: policy}, nil); err != nil {
				t.Fatalf("%s %s: %v", kind, name, err)
			}
		}
	}
	client := w.runtime(t)
	for kind, address := range map[string]string{"vault": e.Vault, "hsm": e.HSM} {
		for name, key := range keys {
			if kind == "vault" && key.jwk.K != nil {
				continue
			}
			for _, wrap := range []vault.Wrap{vault.WrapCKM, vault.Wrap256, vault.Wrap384} {
				kek, err := client.Release(t.Context(), vault.Request{KEK: vault.ID{Vault: address, Name: "m" + name}, Policy: w.agreed(t), Wrap: wrap}, token, releaseKey)
				if err == nil {
					err = key.same(kek)
				}
				if err != nil {
					t.Errorf("%s from the %s by %s: %v", name, kind, wrap, err)
				}
				kek.Destroy()
				released++
			}
		}
	}
	if want := (6 + 9) * 3; released != want {
		t.Errorf("%d releases, want %d", released, want)
	}
}

// TestRefusalsNameTheClaimOfEveryOperator: the HSM, which does not say why,
// refuses; the runtime says which condition of the contract's copy the token
// does not meet, whichever operator it has and however deep it stands. The same
// condition with a value that holds releases.
func TestRefusalsNameTheClaimOfEveryOperator(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	key, token := w.prove(t)
	e := w.cloud.Endpoints()
	owner, client := w.owner(t, e.HSM), w.runtime(t)
	for i, tc := range []struct{ condition, good, bad, want string }{
		{`{"claim":"x-ms-sevsnpvm-vmpl","equals":%s}`, `"0"`, `"1"`, `x-ms-sevsnpvm-vmpl equals "1": have "0"`},
		{`{"claim":"x-ms-sevsnpvm-is-debuggable","equals":%s}`, `false`, `true`, `x-ms-sevsnpvm-is-debuggable equals "true": have "false"`},
		{`{"claim":"x-ms-attestation-type","notEquals":%s}`, `"sgx"`, `"sevsnpvm"`, `x-ms-attestation-type notEquals "sevsnpvm": have "sevsnpvm"`},
		{`{"claim":"x-ms-sevsnpvm-microcode-svn","less":%s}`, `"220"`, `"219"`, `x-ms-sevsnpvm-microcode-svn less "219": have "219"`},
		{`{"claim":"x-ms-sevsnpvm-microcode-svn","lessOrEquals":%s}`, `"219"`, `"218"`, `x-ms-sevsnpvm-microcode-svn lessOrEquals "218": have "219"`},
		{`{"claim":"x-ms-sevsnpvm-microcode-svn","greater":%s}`, `"218"`, `"219"`, `x-ms-sevsnpvm-microcode-svn greater "219": have "219"`},
		{`{"claim":"x-ms-sevsnpvm-microcode-svn","greaterOrEquals":%s}`, `"219"`, `"220"`, `x-ms-sevsnpvm-microcode-svn greaterOrEquals "220": have "219"`},
		{`{"claim":"x-ms-sevsnpvm-hostdata","exists":%s}`, `true`, `false`, `x-ms-sevsnpvm-hostdata exists "false": have "`},
		{`{"claim":"x-ms-isolation-tee","exists":%s}`, `false`, `true`, `x-ms-isolation-tee exists "true": have no such claim`},
		{`{"anyOf":[{"claim":"x-ms-sevsnpvm-vmpl","equals":"3"},{"allOf":[{"anyOf":[{"claim":"x-ms-sevsnpvm-guestsvn","greater":%s}]}]}]}`, `"1"`, `"2"`,
			`x-ms-sevsnpvm-vmpl equals "3": have "0"; x-ms-sevsnpvm-guestsvn greater "2": have "2"`},
	} {
		for value, want := range map[string]string{tc.good: "", tc.bad: tc.want} {
			text := fmt.Sprintf(`{"version":"1.0.0","anyOf":[{"authority":%q,"allOf":[{"claim":"x-ms-compliance-status","equals":"azure-compliant-uvm"},%s]}]}`,
				e.Attestation, fmt.Sprintf(tc.condition, value))
			policy, err := release.Parse([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprintf("op-%d-%t", i, want == "")
			if _, err := owner.CreateKey(t.Context(), name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeECHSM),
				KeyAttributes: &azkeys.KeyAttributes{Exportable: to.Ptr(true)}, ReleasePolicy: &azkeys.KeyReleasePolicy{EncodedPolicy: []byte(text)}}, nil); err != nil {
				t.Fatal(err)
			}
			kek, err := client.Release(t.Context(), vault.Request{KEK: vault.ID{Vault: e.HSM, Name: name}, Policy: policy}, token, key)
			switch {
			case want == "" && err != nil:
				t.Errorf("%s with %s: %v", tc.condition, value, err)
			case want != "" && (kek != nil || fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "the vault refuses: key release policy is not met: "+want)):
				t.Errorf("%s with %s: got %v, want %s", tc.condition, value, err, want)
			}
			kek.Destroy()
		}
	}
}
