package vault

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloister/internal/fault"
	"cloister/policy/release"
)

// recordings reads the releases of the real services that the SDK's own tests
// recorded; the module proxy serves them.
func recordings(t testing.TB, service string) string {
	t.Helper()
	const module = "github.com/Azure/azure-sdk-for-go/sdk/keyvault/azkeys@v0.6.0"
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir = t.TempDir() // outside any module: go.mod must not change
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the real releases are not here: run `go mod download %s`: %v", module, err)
	}
	var info struct{ Dir string }
	if err := json.Unmarshal(out, &info); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(info.Dir, "testdata", "recordings", "TestReleaseKey", service+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var recording struct {
		Entries []struct{ ResponseBody json.RawMessage }
	}
	if err := json.Unmarshal(text, &recording); err != nil {
		t.Fatal(err)
	}
	for _, entry := range recording.Entries {
		var body struct{ Value string }
		if json.Unmarshal(entry.ResponseBody, &body) == nil && strings.Count(body.Value, ".") == 2 {
			return body.Value
		}
	}
	t.Fatal("the recording has no release")
	return ""
}

// recorded is when the releases were made; the certificates have expired since.
var recorded = time.Date(2022, 6, 27, 19, 5, 0, 0, time.UTC)

func TestRealReleaseStatements(t *testing.T) {
	for _, tc := range []struct{ service, vault, key, authority string }{
		{"KV", "https://chloweazkeys.vault.azure.net", "testreleasekey2353464635", "https://chloweazkeyssite.azurewebsites.net"},
		{"MHSM", "https://chloweazkeyshsm.managedhsm.azure.net", "testreleasekey2633194999", "https://chloweazkeyssite.azurewebsites.net"},
	} {
		t.Run(tc.service, func(t *testing.T) {
			raw := recordings(t, tc.service)
			c := New(Options{})
			c.now = func() time.Time { return recorded }
			payload, err := c.verifyStatement(raw, tc.vault)
			if err != nil {
				t.Fatal(err)
			}
			var s statement
			if err := json.Unmarshal(payload, &s); err != nil {
				t.Fatal(err)
			}
			var wrapped wrappedKey
			if err := json.Unmarshal(s.Response.Key.Key.KeyHSM, &wrapped); err != nil {
				t.Fatal(err)
			}
			// Written as the parties would have agreed on it, not as the service
			// rewrote it.
			agreed, err := release.Parse([]byte(`{"version":"1.0.0","anyOf":[{"authority":"` + tc.authority +
				`","anyOf":[{"claim":"sdk-test","equals":"true"}]}]}`))
			if err != nil {
				t.Fatal(err)
			}
			want := expectedRelease{
				request: Request{KEK: ID{Vault: tc.vault, Name: tc.key}, Policy: agreed, Wrap: WrapCKM},
				key:     &ReleaseKey{kid: "fake-release-key"},
			}
			if err := compare(&s, &wrapped, want).Err("it"); err != nil {
				t.Error(err)
			}
			realRefusals(t, c, raw, tc.vault)
		})
	}
}

// realRefusals changes one circumstance of a genuine statement at a time.
func realRefusals(t *testing.T, c *Client, raw, vault string) {
	if _, err := c.verifyStatement(raw, "https://other.vault.azure.com"); err == nil || !strings.Contains(err.Error(), "certificate chain") {
		t.Errorf("another host: %v", err)
	}
	for i := 40; i < len(raw); i += 997 {
		flipped := []byte(raw)
		if flipped[i] == '.' {
			continue
		}
		flipped[i] = map[bool]byte{true: 'B', false: 'A'}[flipped[i] == 'A']
		if _, err := c.verifyStatement(string(flipped), vault); fault.KindOf(err) != fault.Refused {
			t.Errorf("character %d changed: %v", i, err)
		}
	}
	now := New(Options{})
	if _, err := now.verifyStatement(raw, vault); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("years later: %v", err)
	}
}
