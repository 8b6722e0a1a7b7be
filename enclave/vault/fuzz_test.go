package vault

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"testing"

	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"cloister/enclave/attest"
	"cloister/enclave/envelope"
	"cloister/policy/release"
)

// FuzzID: an address that parses names a host and nothing that a URL could
// smuggle in beside it.
func FuzzID(f *testing.F) {
	f.Add("secrets", "https://v.vault.azure.net/secrets/dek/0123")
	f.Add("keys", "https://hsm:8443/keys/kek")
	f.Add("keys", "https://v/keys/%2e%2e/x")
	f.Fuzz(func(t *testing.T, collection, address string) {
		if collection != "keys" && collection != "secrets" {
			return
		}
		id, err := ParseID(collection, address)
		if err != nil {
			return
		}
		u, err := url.Parse(id.Vault)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			t.Errorf("%q has vault %q", address, id.Vault)
		}
		form := id.Vault + "/" + collection + "/" + id.Name
		if id.Version != "" {
			form += "/" + id.Version
		}
		if again, err := ParseID(collection, form); err != nil || again != id {
			t.Errorf("%q is %+v, written again %+v, %v", address, id, again, err)
		}
	})
}

// answers gives everybody the same answer.
type answers []byte

func (a answers) Do(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(a)), Request: r}, nil
}

// FuzzAnswer: whatever a vault answers, no KEK comes out that it did not sign,
// and a wrapped DEK is within its bound.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"value":"a.b.c"}`))
	f.Add([]byte(`{"value":null,"attributes":{"exp":"x"}}`))
	f.Add([]byte(`[`))
	policy := must(release.Parse([]byte(agreedPolicy)))
	f.Fuzz(func(t *testing.T, answer []byte) {
		c := New(Options{Credential: tokenSource{}, Client: azpolicy.ClientOptions{Transport: answers(answer), Retry: azpolicy.RetryOptions{MaxRetries: -1}}, PrivateCloud: true})
		kek, err := c.Release(t.Context(), Request{KEK: ID{Vault: "https://v.example", Name: "k"}, Policy: policy}, &attest.Token{}, testReleaseKey())
		if err == nil {
			t.Fatalf("a KEK came out: %v", kek)
		}
		wrapped, err := c.WrappedDEK(t.Context(), "https://v.example/secrets/s")
		if err == nil && len(wrapped) > envelope.MaxSize {
			t.Fatalf("%d bytes came out", len(wrapped))
		}
		c.Find(t.Context(), "https://v.example/secrets/s") //nolint:errcheck // it may be there
	})
}
