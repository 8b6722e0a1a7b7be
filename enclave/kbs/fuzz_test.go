package kbs

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"cloister/enclave/snp"
)

// FuzzChallenge: a nonce that is accepted goes into the report's bytes as it is,
// so that broker and machine hash the same, and nothing but a nonce gets in.
func FuzzChallenge(f *testing.F) {
	f.Add([]byte(`{"nonce":"AAAA","extra-params":""}`))
	f.Add([]byte(`{"nonce":"A+/=_-","extra-params":{"selected-hash-algorithm":"sha384"}}`))
	f.Add([]byte(`{"nonce":"\u0041","extra-params":{"selected-hash-algorithm":null}}`))
	f.Add([]byte(`{"nonce":"AAAA","extra-params":{"selected-hash-algorithm":"sha256"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		nonce, err := parseChallenge(data)
		if err != nil {
			return
		}
		bound, err := json.Marshal(runtimeData{Nonce: nonce})
		if err != nil {
			t.Fatal(err)
		}
		if want := `{"additional-evidence":"","nonce":"` + nonce + `","tee-pubkey":{`; !bytes.HasPrefix(bound, []byte(want)) {
			t.Errorf("the nonce %q becomes %s", nonce, bound)
		}
		if _, err := (snp.KeyBroker{RuntimeData: bound}).ReportData(); err != nil {
			t.Error(err)
		}
	})
}

// sealed is a response for the session, by the library.
func sealed(tb testing.TB, s *session, plain []byte) []byte {
	enc, err := jose.NewEncrypter(contentEncryption, jose.Recipient{Algorithm: keyAlgorithm, Key: &s.key.PublicKey}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	jwe, err := enc.Encrypt(plain)
	if err != nil {
		tb.Fatal(err)
	}
	compact, err := jwe.CompactSerialize()
	if err != nil {
		tb.Fatal(err)
	}
	p := strings.Split(compact, ".")
	out, err := json.Marshal(response{Protected: p[0], EncryptedKey: p[1], IV: p[2], Ciphertext: p[3], Tag: p[4]})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// FuzzResponse: whatever a broker answers is refused, or is what was sealed for
// this session.
func FuzzResponse(f *testing.F) {
	s := &session{}
	if err := s.newKey(); err != nil {
		f.Fatal(err)
	}
	plain := []byte("a resource")
	good := sealed(f, s, plain)
	if got, err := s.open(good); err != nil || !bytes.Equal(got, plain) {
		f.Fatalf("%q, %v", got, err)
	}
	f.Add(good)
	f.Add([]byte(`{"protected":"","encrypted_key":"","iv":"","ciphertext":"","tag":""}`))
	for _, epk := range []string{
		`{"crv":"P-256","kty":"EC","x":"AA","y":"AA"}`, `{"crv":"P-384","kty":"EC","x":"AA","y":"AA"}`, `null`, `7`,
		`{"kty":"oct","k":"AAAA"}`, `{"crv":"P-256","kty":"EC","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}`,
	} {
		header := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":%s}`, epk))
		f.Add(fmt.Appendf(nil, `{"protected":"%s","encrypted_key":"AAAAAAAAAAAAAAAA","iv":"AAAA","ciphertext":"AAAA","tag":"AAAA"}`, header))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if got, err := s.open(body); err == nil && !bytes.Equal(got, plain) {
			t.Errorf("%q opens as %q", body, got)
		}
	})
}

// FuzzError: a broker's words are one short, printable line.
func FuzzError(f *testing.F) {
	f.Add(401, []byte(`{"type":"https://github.com/confidential-containers/kbs/errors/PolicyDeny","detail":"no"}`))
	f.Add(500, []byte("{"))
	f.Add(404, []byte(`{"type":"\u001b","detail":"\u202e\n"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		text := (&Client{base: "https://b"}).statusError(status, body).Error()
		if len(text) > 4096 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x202e }) {
			t.Errorf("%q", text)
		}
	})
}
