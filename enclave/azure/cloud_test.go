package azure

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"cloister/internal/fault"
	"cloister/policy/spec"
)

func TestClouds(t *testing.T) {
	for _, tc := range []struct {
		cloud                                  spec.Cloud
		authority, vault, hsm, attestation, in string
	}{
		{"", "https://login.microsoftonline.com/", "https://a.vault.azure.net", "https://a.managedhsm.azure.net", "https://a.weu.attest.azure.net", "public"},
		{spec.PublicCloud, "https://login.microsoftonline.com/", "https://a.vault.azure.net", "https://a.managedhsm.azure.net", "https://a.weu.attest.azure.net", "public"},
		{spec.USGovernmentCloud, "https://login.microsoftonline.us/", "https://a.vault.usgovcloudapi.net", "https://a.managedhsm.usgovcloudapi.net", "https://a.ugv.attest.azure.us", "usgovernment"},
		{spec.ChinaCloud, "https://login.chinacloudapi.cn/", "https://a.vault.azure.cn", "https://a.managedhsm.azure.cn", "https://attest.example.cn", "china"},
	} {
		c, err := CloudOf(spec.Specification{Kind: spec.ACI, Cloud: tc.cloud})
		if err != nil || c.Authority != tc.authority || c.Name != tc.in || c.Configuration().ActiveDirectoryAuthorityHost != tc.authority {
			t.Errorf("%q: %+v, %v", tc.cloud, c, err)
		}
		_, domain, _ := strings.Cut(tc.vault, "a.")
		if c.VaultScope() != "https://"+domain+"/.default" {
			t.Errorf("%q: scope %s", tc.cloud, c.VaultScope())
		}
		for _, good := range []error{c.CheckVault(tc.vault), c.CheckVault(tc.hsm + "/"), c.CheckVault(strings.ToUpper(tc.vault) + "/secrets/x"), c.CheckAttestation(tc.attestation)} {
			if good != nil {
				t.Errorf("%q: %v", tc.cloud, good)
			}
		}
		bad := []string{"https://a.vault.azure.de", "https://vault.azure.net", "https://avault.azure.net", "https://a.vault.azure.net.evil.example", "https://127.0.0.1", "https://evil.example/a.vault.azure.net"}
		for _, other := range clouds {
			if other.Name != c.Name {
				bad = append(bad, "https://a."+other.Vault, "https://a."+other.HSM)
			}
		}
		for _, address := range bad {
			err := c.CheckVault(address)
			if fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), address+" is not in the cloud "+tc.in) || len(fault.Hints(err)) == 0 {
				t.Errorf("%q admits %s: %v", tc.cloud, address, err)
			}
		}
		if err := c.CheckAttestation("https://a.attest.azure.example"); (err == nil) != (c.Attestation == "") {
			t.Errorf("%q: a stranger's attestation service: %v", tc.cloud, err)
		}
	}
	if _, err := CloudOf(spec.Specification{Kind: spec.ACI, Cloud: "moon"}); fault.KindOf(err) != fault.Usage {
		t.Errorf("got %v", err)
	}
	if c, err := CloudOf(spec.Specification{Kind: spec.Simulated}); err != nil || c != (Cloud{}) || c.CheckVault("https://127.0.0.1:1") != nil || c.CheckAttestation("https://127.0.0.1:1") != nil {
		t.Errorf("of a simulated room: %+v, %v", c, err)
	}
}

// recorder is a transport that refuses everything and remembers whom it was to ask.
type recorder struct{ hosts []string }

func (r *recorder) Do(req *http.Request) (*http.Response, error) {
	r.hosts = append(r.hosts, req.URL.Host)
	return &http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), Request: req}, nil
}

// The federated token goes to the login service of the specification's cloud,
// whatever the environment, which is the host's, says.
func TestSigningInAtTheCloudsAuthority(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("jwt"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", file)
	t.Setenv("AZURE_AUTHORITY_HOST", "https://stranger.example/")
	for name, host := range map[spec.Cloud]string{
		spec.PublicCloud: "login.microsoftonline.com", spec.USGovernmentCloud: "login.microsoftonline.us", spec.ChinaCloud: "login.chinacloudapi.cn",
	} {
		cloud, err := CloudOf(spec.Specification{Kind: spec.AKS, Cloud: name})
		if err != nil {
			t.Fatal(err)
		}
		asked := &recorder{}
		cred, err := Identity{ClientID: someID, TenantID: someID, AuthorityHost: cloud.Authority, PrivateCloud: true, Transport: asked}.Credential()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{cloud.VaultScope()}}); err == nil {
			t.Errorf("%s: a token came from nowhere", name)
		}
		if len(asked.hosts) == 0 || asked.hosts[0] != host {
			t.Errorf("%s: asked %q, want %s", name, asked.hosts, host)
		}
	}
}
