package azure

import (
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"cloister/internal/fault"
)

func serve(t *testing.T, handler http.HandlerFunc) (*httptest.Server, *Transport) {
	s := httptest.NewTLSServer(handler)
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s, NewTransport(roots)
}

func get(t *testing.T, tr *Transport, url string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

func TestAnswersAreBounded(t *testing.T) {
	for size, want := range map[int]error{0: nil, MaxResponse - 1: nil, MaxResponse: nil, MaxResponse + 1: errTooLong, 2 * MaxResponse: errTooLong} {
		s, tr := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("x", size)) })
		_, body, err := get(t, tr, s.URL)
		if !errors.Is(err, want) || err == nil && len(body) != size || len(body) > MaxResponse {
			t.Errorf("%d bytes: read %d, %v", size, len(body), err)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	hits := 0
	s, tr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		hits++
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	})
	resp, _, err := get(t, tr, s.URL)
	if err != nil || resp.StatusCode != http.StatusFound || hits != 1 {
		t.Errorf("%v after %d requests, %v", resp, hits, err)
	}
}

func TestUnknownCAIsRefused(t *testing.T) {
	s, _ := serve(t, func(http.ResponseWriter, *http.Request) {})
	_, _, err := get(t, NewTransport(x509.NewCertPool()), s.URL)
	if err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("got %v", err)
	}
	var final interface{ NonRetriable() }
	if !errors.As(err, &final) {
		t.Errorf("it would be tried again: %v", err)
	}
}

func TestManagedIdentity(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-IDENTITY-HEADER") != "secret" || r.URL.Query().Get("client_id") != "me" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		io.WriteString(w, `{"access_token":"t","expires_on":"4102444800","resource":"r","token_type":"Bearer"}`)
	}))
	defer s.Close()
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", "")
	t.Setenv("IDENTITY_ENDPOINT", s.URL)
	t.Setenv("IDENTITY_HEADER", "secret")
	cred, err := Identity{ClientID: "me"}.Credential()
	if err != nil {
		t.Fatal(err)
	}
	token, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://vault.example/.default"}})
	if err != nil || token.Token != "t" {
		t.Errorf("%v", err)
	}
}

func TestWorkloadIdentityNeedsItsNames(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("jwt"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", file)
	t.Setenv("AZURE_CLIENT_ID", "")
	t.Setenv("AZURE_TENANT_ID", "")
	if _, err := (Identity{}).Credential(); fault.KindOf(err) != fault.Usage || len(fault.Hints(err)) == 0 {
		t.Errorf("got %v", err)
	}
}
