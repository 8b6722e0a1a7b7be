package localcloud

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"cloister/internal/localcloud/identity"
	"cloister/internal/localcloud/platform"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// newDir is a state directory whose sockets fit: t.TempDir holds the test's name.
func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cloud")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func startIn(t *testing.T, dir string) *Cloud {
	t.Helper()
	c, err := Start(context.Background(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// shared is one cloud for the tests that do not stop it or change its faults.
var shared = sync.OnceValues(func() (*Cloud, error) {
	dir, err := os.MkdirTemp("", "cloud")
	if err != nil {
		return nil, err
	}
	return Start(context.Background(), Config{Dir: dir})
})

func TestMain(m *testing.M) {
	code := m.Run()
	if c, err := shared(); err == nil {
		c.Close()
		os.RemoveAll(c.dir)
	}
	os.Exit(code)
}

func theCloud(t *testing.T) *Cloud {
	t.Helper()
	c, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// transport trusts the cloud's CA and nothing else.
func transport(c *Cloud) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(c.Certificate())
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: pool},
		DisableKeepAlives: true,
	}}
}

func options(c *Cloud) azcore.ClientOptions {
	return azcore.ClientOptions{
		Transport: transport(c),
		Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: c.Endpoints().Authority},
		Retry:     policy.RetryOptions{MaxRetries: -1},
	}
}

// credential signs in as the named identity by federation: without a single
// environment variable, so that no client can fall back to a real address.
func credential(t *testing.T, c *Cloud, name string) azcore.TokenCredential {
	t.Helper()
	i, err := c.AddIdentity(name)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := azidentity.NewClientAssertionCredential(c.Endpoints().Tenant, i.ClientID,
		func(context.Context) (string, error) { return c.FederatedToken(name) },
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: options(c), DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

func keysClient(t *testing.T, c *Cloud, url string) *azkeys.Client {
	t.Helper()
	client, err := azkeys.NewClient(url, credential(t, c, identity.Owner),
		&azkeys.ClientOptions{ClientOptions: options(c), DisableChallengeResourceVerification: true})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func secretsClient(t *testing.T, c *Cloud) *azsecrets.Client {
	t.Helper()
	client, err := azsecrets.NewClient(c.Endpoints().Vault, credential(t, c, identity.Owner),
		&azsecrets.ClientOptions{ClientOptions: options(c), DisableChallengeResourceVerification: true})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// wantStatus checks that err is the service's refusal with that status and code.
func wantStatus(t *testing.T, what string, err error, status int, code string) {
	t.Helper()
	var refused *azcore.ResponseError
	if !errors.As(err, &refused) || refused.StatusCode != status || refused.ErrorCode != code {
		t.Errorf("%s: %v; want %d %s", what, err, status, code)
	}
}

// containerPolicy is a container policy's text, and its hash in hex.
var containerPolicy = []byte("package policy\n\ncontainers := []\n")

func hostData(policy []byte) string {
	sum := sha256.Sum256(policy)
	return hex.EncodeToString(sum[:])
}

func guest(t *testing.T, c *Cloud, config platform.GuestConfig) string {
	t.Helper()
	if config.Policy == nil {
		config.Policy = containerPolicy
	}
	dir := newDir(t)
	if err := c.LaunchGuest(dir, config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.RemoveGuest(dir) }) //nolint:errcheck // the test may have done it
	return dir
}

// ephemeral is a guest's key for one release.
type ephemeral struct {
	key  *rsa.PrivateKey
	jwks []byte
}

var ephemeralKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func newEphemeral(t *testing.T) ephemeral {
	t.Helper()
	key, err := ephemeralKey()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return ephemeral{key, fmt.Appendf(nil,
		`{"keys":[{"kty":"RSA","kid":"release-1","key_ops":["encrypt"],"n":%q,"e":%q}]}`,
		b64(key.N.Bytes()), b64(big.NewInt(int64(key.E)).Bytes()))}
}

// snpReport asks the guest's processor for a report over data.
func snpReport(t *testing.T, dir string, data [64]byte) []byte {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, platform.SocketFile))
		}}}
	resp, err := client.Post("http://guest/report", "", bytes.NewReader(data[:]))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	report, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("report: %d %v %s", resp.StatusCode, err, report)
	}
	return report
}

func contextFile(t *testing.T, dir, name string) []byte {
	t.Helper()
	encoded, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	data, err := base64.StdEncoding.DecodeString(string(encoded))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// evidence is an attestation request before it is encoded.
type evidence struct {
	report, chain, endorsement, runtime []byte
	dataType                            string
}

func gather(t *testing.T, dir string, runtime []byte) evidence {
	t.Helper()
	var data [64]byte
	sum := sha256.Sum256(runtime)
	copy(data[:], sum[:])
	var thim struct{ VcekCert, CertificateChain string }
	if err := json.Unmarshal(contextFile(t, dir, platform.CertificatesFile), &thim); err != nil {
		t.Fatal(err)
	}
	return evidence{
		report:      snpReport(t, dir, data),
		chain:       []byte(thim.VcekCert + thim.CertificateChain),
		endorsement: contextFile(t, dir, platform.EndorsementFile),
		runtime:     runtime,
		dataType:    "JSON",
	}
}

func (e evidence) body() []byte {
	b64 := base64.URLEncoding.EncodeToString // padded: the service takes that too
	marshal := func(v any) []byte {
		out, err := json.Marshal(v)
		if err != nil {
			panic(err) // maps of strings always encode
		}
		return out
	}
	return marshal(map[string]any{
		"report": b64(marshal(map[string]string{
			"SnpReport":     b64(e.report),
			"VcekCertChain": b64(e.chain),
			"Endorsements":  b64(marshal(map[string][]string{"Uvm": {b64(e.endorsement)}})),
		})),
		"runtimeData": map[string]string{"data": b64(e.runtime), "dataType": e.dataType},
		"nonce":       12345,
	})
}

// postAttestation returns the status and body of an attestation.
func postAttestation(t *testing.T, c *Cloud, query string, body []byte) (int, []byte) {
	t.Helper()
	resp, err := transport(c).Post(c.Endpoints().Attestation+"/attest/SevSnpVm"+query, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, out
}

const attestVersion = "?api-version=2022-08-01"

func attest(t *testing.T, c *Cloud, e evidence) (token string, status int, body []byte) {
	t.Helper()
	status, body = postAttestation(t, c, attestVersion, e.body())
	var answer struct{ Token string }
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return answer.Token, status, body
}

func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
