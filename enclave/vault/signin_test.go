package vault

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"cloister/enclave/azure"
	"crypto/x509"
)

// scoped gives tokens that say what they are for.
type scoped struct{}

func (scoped) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: o.Scopes[0], ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// A vault sees the token at once; one whose tokens are for something else says
// so once, and is believed from then on.
func TestSigningIn(t *testing.T) {
	for _, tc := range []struct {
		audience string
		want     []string // authorizations, in order
	}{
		{vaultAudience, []string{"Bearer https://vault.azure.net/.default", "Bearer https://vault.azure.net/.default"}},
		{"https://other.example", []string{"Bearer https://vault.azure.net/.default", "", "Bearer https://other.example/.default", "Bearer https://other.example/.default"}},
	} {
		var got []string
		s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got = append(got, r.Header.Get("Authorization"))
			if got[len(got)-1] != "Bearer "+tc.audience+"/.default" {
				w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer authorization=%q, resource=%q", "https://login.example/tenant", tc.audience))
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			io.WriteString(w, `{"value":"AAAA"}`)
		}))
		defer s.Close()
		roots := x509.NewCertPool()
		roots.AddCert(s.Certificate())
		c := New(Options{Credential: scoped{}, PrivateCloud: true,
			Client: policy.ClientOptions{Transport: azure.NewTransport(roots), Retry: policy.RetryOptions{MaxRetries: -1}}})
		for range 2 {
			if value, err := c.WrappedDEK(t.Context(), s.URL+"/secrets/dek"); err != nil || string(value) != "AAAA" {
				t.Fatal(err)
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: asked with %q, want %q", tc.audience, got, tc.want)
		}
	}
}

// A vault whose tokens are for nothing we can have is not asked for ever.
func TestSigningInVain(t *testing.T) {
	asked := 0
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.example/tenant", resource="https://other.example"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	c := New(Options{Credential: scoped{}, PrivateCloud: true,
		Client: policy.ClientOptions{Transport: azure.NewTransport(roots), Retry: policy.RetryOptions{MaxRetries: -1}}})
	if _, err := c.WrappedDEK(t.Context(), s.URL+"/secrets/dek"); err == nil || asked != 3 {
		t.Errorf("%v after %d requests", err, asked)
	}
}

func TestAudiencesOfPublicVaults(t *testing.T) {
	for host, want := range map[string]string{
		"my.vault.azure.net": vaultAudience, "my.managedhsm.azure.net": hsmAudience, "my.vault.azure.cn": "https://vault.azure.cn",
		"localhost": "", "example.com": "",
	} {
		if got, ok := (&signIn{}).audience(host); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %s %v", host, got, ok)
		}
	}
}
