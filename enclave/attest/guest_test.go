package attest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"cloister/enclave/snp"
	"cloister/enclave/snp/vtpm"
	"cloister/internal/fault"
)

// heldKey stands for a TPM's: the service only sees its public half.
type heldKey struct{ *rsa.PrivateKey }

func (heldKey) Guest() vtpm.Guest { return vtpm.Guest{} }

// box is the service's sealed token.
type box struct {
	EncryptedInnerKey, AuthenticationData, Jwt []byte
	EncryptionParams                           struct{ Iv []byte }
}

func sealed(t testing.TB, token string, to *rsa.PublicKey, change func(*box)) string {
	t.Helper()
	inner := make([]byte, 32)
	block, err := aes.NewCipher(inner)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	var b box
	b.EncryptionParams.Iv = make([]byte, 12)
	all := aead.Seal(nil, b.EncryptionParams.Iv, []byte(token), []byte("Transport Key"))
	b.Jwt, b.AuthenticationData = all[:len(token)], all[len(token):]
	if b.EncryptedInnerKey, err = rsa.EncryptPKCS1v15(rand.Reader, to, inner); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&b)
	}
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

const hclClaims = `{"keys":[{"kid":"HCLAkPub"}],"vm-configuration":{"current-time":1678652405}}`

// newGuestService says the truth of a VM with the test's report.
func newGuestService(t testing.TB) (*service, *snp.Evidence, heldKey) {
	t.Helper()
	s, key := newService(t), heldKey{testKey()}
	flat := s.claims
	tee := map[string]any{"x-ms-runtime": json.RawMessage(hclClaims)}
	for name, value := range flat {
		if strings.HasPrefix(name, "x-ms-sevsnpvm-") {
			tee[name] = value
		}
	}
	tee["x-ms-attestation-type"], tee["x-ms-compliance-status"] = "sevsnpvm", "azure-compliant-cvm"
	s.claims = map[string]any{
		"iss": flat["iss"], "exp": flat["exp"], "nbf": flat["nbf"], "iat": flat["iat"],
		"x-ms-attestation-type": "azurevm", "secureboot": true, "x-ms-azurevm-attested-pcrs": []int{0, 11},
		"x-ms-runtime": json.RawMessage(testRuntimeData), teeClaim: tee,
	}
	s.token = func(token string) string { return sealed(t, token, &key.PublicKey, nil) }
	e := testEvidence()
	e.Quote = &snp.Quote{Claims: []byte(hclClaims), PCRs: snp.PCRs{0: {}, 11: {}}}
	return s, e, key
}

func TestAttestGuest(t *testing.T) {
	s, e, key := newGuestService(t)
	for _, payload := range []string{"", `,"client-payload":{}`} {
		s.claims["x-ms-runtime"] = json.RawMessage(strings.TrimSuffix(string(testRuntimeData), "}") + payload + "}")
		token, err := s.client(t).AttestGuest(t.Context(), e, testRuntimeData, key)
		if err != nil {
			t.Fatal(err)
		}
		if token.Authority != s.URL || len(token.Checks) < 15 {
			t.Errorf("%+v", token)
		}
	}
}

// Every claim that a release depends on, wrong and absent, is named.
func TestGuestClaimsAreCompared(t *testing.T) {
	top := map[string]any{
		"x-ms-attestation-type": "sevsnpvm", "secureboot": false, "x-ms-azurevm-attested-pcrs": []int{0}, "iss": "https://elsewhere",
		"x-ms-runtime": map[string]any{"keys": []any{}}, teeClaim: nil,
	}
	nested := map[string]any{
		"x-ms-runtime": map[string]any{}, "x-ms-attestation-type": "tdxvm", "x-ms-compliance-status": "azure-compliant-uvm",
		"x-ms-sevsnpvm-hostdata": "00", "x-ms-sevsnpvm-reportdata": "00", "x-ms-sevsnpvm-launchmeasurement": "00", "x-ms-sevsnpvm-reportid": "00",
		"x-ms-sevsnpvm-is-debuggable": true, "x-ms-sevsnpvm-migration-allowed": true, "x-ms-sevsnpvm-vmpl": 2, "x-ms-sevsnpvm-guestsvn": 99,
	}
	try := func(name string, change func(claims, tee map[string]any)) {
		s, e, key := newGuestService(t)
		change(s.claims, s.claims[teeClaim].(map[string]any))
		_, err := s.client(t).AttestGuest(t.Context(), e, testRuntimeData, key)
		if name == "iss" {
			name = "issuer"
		}
		if fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "the attestation token is refused: ") || !strings.Contains(err.Error(), name+": expected ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, bad := range top {
		try(name, func(claims, _ map[string]any) { claims[name] = bad })
		try(name, func(claims, _ map[string]any) { delete(claims, name) })
	}
	for name, bad := range nested {
		try(teeClaim+"."+name, func(_, tee map[string]any) { tee[name] = bad })
		try(teeClaim+"."+name, func(_, tee map[string]any) { delete(tee, name) })
	}
	// The claims of a container, flat, do not stand in for the nested ones.
	try(teeClaim, func(claims, tee map[string]any) {
		delete(claims, teeClaim)
		maps.Copy(claims, tee)
	})
}

func TestSealedToken(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*box)
		want   string
	}{
		"key":        {func(b *box) { b.EncryptedInnerKey[5] ^= 1 }, "decryption error"},
		"tag":        {func(b *box) { b.AuthenticationData[0] ^= 1 }, "it does not unseal"},
		"ciphertext": {func(b *box) { b.Jwt[0] ^= 1 }, "it does not unseal"},
		"nonce":      {func(b *box) { b.EncryptionParams.Iv = nil }, "the nonce it is sealed with has 0 bytes"},
	} {
		s, e, key := newGuestService(t)
		s.token = func(token string) string { return sealed(t, token, &key.PublicKey, tc.change) }
		if _, err := s.client(t).AttestGuest(t.Context(), e, testRuntimeData, key); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, e, key := newGuestService(t)
	s.token = func(token string) string { return token }
	if _, err := s.client(t).AttestGuest(t.Context(), e, testRuntimeData, key); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "it is not sealed to the TPM's key") {
		t.Errorf("in the clear: %v", err)
	}
	if _, err := s.client(t).AttestGuest(t.Context(), testEvidence(), testRuntimeData, key); err == nil || !strings.Contains(err.Error(), "there is no quote") {
		t.Errorf("a container: %v", err)
	}
}

func FuzzUnseal(f *testing.F) {
	key := heldKey{testKey()}
	f.Add([]byte(`{"EncryptedInnerKey":"","EncryptionParams":{"Iv":""},"AuthenticationData":"","Jwt":""}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if token, err := unseal(base64.RawURLEncoding.EncodeToString(raw), key); err == nil {
			t.Fatalf("nobody sealed %q", token)
		} else if fault.KindOf(err) != fault.Refused {
			t.Fatalf("kind %v: %v", fault.KindOf(err), err)
		}
	})
}
