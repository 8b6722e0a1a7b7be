package azure

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// directory plays both ways to a token, and a service that admits one until it
// expires. Tokens live for an hour and name their end.
type directory struct {
	away       bool // it gives no tokens
	refused    int  // how often it was asked then
	given      int
	assertions map[string]bool // seen
	least      time.Duration   // that a token had left when it was used
}

func (d *directory) Do(r *http.Request) (*http.Response, error) {
	switch {
	case r.URL.Host == "store.example":
		end, err := strconv.ParseInt(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), 10, 64)
		left := time.Until(time.Unix(end, 0))
		if err != nil || left < 0 {
			return answer(r, http.StatusUnauthorized, ""), nil
		}
		d.least = min(d.least, left)
		return answer(r, http.StatusOK, ""), nil
	case strings.HasSuffix(r.URL.Path, "/openid-configuration"):
		base := "https://login.example/" + someID
		return answer(r, http.StatusOK, fmt.Sprintf(`{"issuer":"%[1]s/v2.0","authorization_endpoint":"%[1]s/authorize","token_endpoint":"%[1]s/token"}`, base)), nil
	case d.away:
		d.refused++
		return answer(r, http.StatusServiceUnavailable, "{}"), nil
	}
	if r.Body != nil {
		form, _ := io.ReadAll(r.Body)
		for field := range strings.SplitSeq(string(form), "&") {
			if assertion, ok := strings.CutPrefix(field, "client_assertion="); ok {
				d.assertions[assertion] = true
			}
		}
	}
	d.given++
	end := time.Now().Add(time.Hour).Unix()
	return answer(r, http.StatusOK, fmt.Sprintf(`{"access_token":"%d","expires_on":"%[1]d","expires_in":3600,"resource":"r","token_type":"Bearer"}`, end)), nil
}

func answer(r *http.Request, status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}
}

const someID = "11111111-2222-3333-4444-555555555555"

// A mount that outlives many tokens is never refused: the runtime's identity
// renews them ahead of their end, so that the directory may be away for
// minutes, and reads the platform's own token anew, which ends too. The clock is
// the test's.
func TestIdentitysTokensAreRenewedAhead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	for name, setUp := range map[string]func() Identity{
		"managed identity": func() Identity {
			t.Setenv("AZURE_FEDERATED_TOKEN_FILE", "")
			t.Setenv("IDENTITY_ENDPOINT", "http://identity.example/msi/token")
			t.Setenv("IDENTITY_HEADER", "secret")
			return Identity{ClientID: someID}
		},
		"workload identity": func() Identity {
			t.Setenv("AZURE_FEDERATED_TOKEN_FILE", file)
			return Identity{ClientID: someID, TenantID: someID, AuthorityHost: "https://login.example/", PrivateCloud: true}
		},
	} {
		t.Run(name, func(t *testing.T) {
			who := setUp()
			d := &directory{assertions: map[string]bool{}, least: time.Hour}
			who.Transport = d
			synctest.Test(t, func(t *testing.T) { useForADay(t, who, d, file) })
			if d.refused == 0 || d.given < 24 || d.least < time.Minute {
				t.Errorf("a token was used %v before its end, of %d given; %d renewals failed, which must be some", d.least, d.given, d.refused)
			}
			if n := len(d.assertions); (n < 2) == (name == "workload identity") {
				t.Errorf("%d tokens of the platform were shown", n)
			}
		})
	}
}

func useForADay(t *testing.T, who Identity, d *directory, file string) {
	write := func(minute int) {
		if err := os.WriteFile(file, []byte("platform-token-"+strconv.Itoa(minute/60)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(0)
	cred, err := who.Credential()
	if err != nil {
		t.Fatal(err)
	}
	bearer := runtime.NewBearerTokenPolicy(cred, []string{"https://storage.azure.com/.default"}, nil)
	pipeline := runtime.NewPipeline("test", "1", runtime.PipelineOptions{PerRetry: []policy.Policy{bearer}},
		&policy.ClientOptions{Transport: d, Retry: policy.RetryOptions{MaxRetries: -1}})
	for minute := range 24 * 60 {
		write(minute)
		d.away = minute%60 >= 54 && minute%60 < 58
		req, err := runtime.NewRequest(t.Context(), http.MethodGet, "https://store.example/object")
		if err != nil {
			t.Fatal(err)
		}
		resp, err := pipeline.Do(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("minute %d: %v, %v", minute, resp, err)
		}
		time.Sleep(time.Minute)
	}
}
