package localcloud

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloister/internal/localcloud/platform"

	"github.com/go-jose/go-jose/v4"
)

func get(t *testing.T, c *Cloud, url string, v any) *http.Response {
	t.Helper()
	resp, err := transport(c).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if v != nil {
		if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
			t.Fatal(err)
		}
	}
	return resp
}

// publishedKeys follows the openid configuration to the keys, as a relying
// party does.
func publishedKeys(t *testing.T, c *Cloud) map[string]*rsa.PublicKey {
	t.Helper()
	var config struct {
		Issuer string
		Keys   string `json:"jwks_uri"`
	}
	get(t, c, c.Endpoints().Attestation+"/.well-known/openid-configuration", &config)
	if config.Issuer != c.Endpoints().Attestation {
		t.Errorf("issuer %q", config.Issuer)
	}
	var set struct {
		Keys []struct {
			Kid, Kty string
			X5c      [][]byte
		}
	}
	get(t, c, config.Keys, &set)
	out := map[string]*rsa.PublicKey{}
	for _, k := range set.Keys {
		cert, err := x509.ParseCertificate(k.X5c[0])
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(cert.Subject.String(), "simulated") {
			t.Errorf("subject %s", cert.Subject)
		}
		out[k.Kid] = cert.PublicKey.(*rsa.PublicKey)
	}
	return out
}

// claimsOf verifies a token with the published keys and returns its claims.
func claimsOf(t *testing.T, c *Cloud, token string) map[string]any {
	t.Helper()
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	header := signed.Signatures[0].Header
	if jku := header.ExtraHeaders["jku"]; jku != c.Endpoints().Attestation+"/certs" {
		t.Errorf("jku %v", jku)
	}
	payload, err := signed.Verify(publishedKeys(t, c)[header.KeyID])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestTokenStatesWhatTheReportSays(t *testing.T) {
	c := theCloud(t)
	e := gather(t, guest(t, c, platform.GuestConfig{}), newEphemeral(t).jwks)
	token, status, body := attest(t, c, e)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	claims := claimsOf(t, c, token)
	for name, want := range map[string]any{
		"iss":                             c.Endpoints().Attestation,
		"nonce":                           12345.0,
		"x-cloister-simulated":            "true",
		"x-ms-attestation-type":           "sevsnpvm",
		"x-ms-compliance-status":          "azure-compliant-uvm",
		"x-ms-ver":                        "1.0",
		"x-ms-sevsnpvm-hostdata":          hostData(containerPolicy),
		"x-ms-sevsnpvm-is-debuggable":     false,
		"x-ms-sevsnpvm-migration-allowed": false,
		"x-ms-sevsnpvm-smt-allowed":       true,
		"x-ms-sevsnpvm-vmpl":              0.0,
		"x-ms-sevsnpvm-guestsvn":          2.0,
		"x-ms-sevsnpvm-bootloader-svn":    4.0,
		"x-ms-sevsnpvm-tee-svn":           0.0,
		"x-ms-sevsnpvm-snpfw-svn":         24.0,
		"x-ms-sevsnpvm-microcode-svn":     219.0,
		"x-ms-sevsnpvm-familyId":          "01000000000000000000000000000000",
		"x-ms-sevsnpvm-imageId":           "02000000000000000000000000000000",
		"x-ms-sevsnpvm-reportdata":        hostData(e.runtime) + strings.Repeat("0", 64),
	} {
		if claims[name] != want {
			t.Errorf("%s is %v, want %v", name, claims[name], want)
		}
	}
	for name, length := range map[string]int{
		"x-ms-sevsnpvm-launchmeasurement": 96, "x-ms-sevsnpvm-authorkeydigest": 96, "x-ms-sevsnpvm-idkeydigest": 96,
		"x-ms-sevsnpvm-reportid": 64, "x-ms-policy-hash": 43, "jti": 64,
	} {
		if text, _ := claims[name].(string); len(text) != length {
			t.Errorf("%s is %q, want %d characters", name, text, length)
		}
	}
	if keys := claims["x-ms-runtime"].(map[string]any)["keys"].([]any); len(keys) != 1 {
		t.Errorf("x-ms-runtime: %v", claims["x-ms-runtime"])
	}
	if exp, iat := claims["exp"].(float64), claims["iat"].(float64); exp-iat != 8*3600 || claims["nbf"] != claims["iat"] {
		t.Errorf("exp %v iat %v nbf %v", exp, iat, claims["nbf"])
	}
}

func TestAttestationOfBadGuests(t *testing.T) {
	c := theCloud(t)
	for _, tc := range []struct {
		name    string
		config  platform.GuestConfig
		refused string // or, when empty, a token whose claim says so
		claim   string
		value   any
	}{
		{"debug", platform.GuestConfig{Debug: true}, "", "x-ms-sevsnpvm-is-debuggable", true},
		{"migration", platform.GuestConfig{Migration: true}, "", "x-ms-sevsnpvm-migration-allowed", true},
		{"vmpl 2", platform.GuestConfig{VMPL: 2}, "", "x-ms-sevsnpvm-vmpl", 2.0},
		{"old tcb", platform.GuestConfig{OldTCB: true}, "", "x-ms-sevsnpvm-microcode-svn", 115.0},
		{"host's report", platform.GuestConfig{VMPL: 0xFFFFFFFF}, "the host asked for it", "", nil},
		{"measurement", platform.GuestConfig{WrongMeasurement: true}, "the endorsed measurement is not the report's", "", nil},
		{"replay", platform.GuestConfig{Replay: true}, "does not match the report's REPORT_DATA", "", nil},
		{"stale certificates", platform.GuestConfig{StaleCertificates: true}, "VCEK certificate: it is for TCB", "", nil},
		// The service has no floor for the endorsement: the runtime's own check does.
		{"low svn", platform.GuestConfig{LowSVN: true}, "", "x-ms-compliance-status", "azure-compliant-uvm"},
		{"report v2", platform.GuestConfig{ReportVersion: 2}, "", "x-ms-attestation-type", "sevsnpvm"},
		{"report v5", platform.GuestConfig{ReportVersion: 5}, "", "x-ms-attestation-type", "sevsnpvm"},
	} {
		token, status, body := attest(t, c, gather(t, guest(t, c, tc.config), newEphemeral(t).jwks))
		if tc.refused != "" {
			if status != http.StatusBadRequest || !strings.Contains(string(body), tc.refused) || !strings.Contains(string(body), `"code":"InvalidParameter"`) {
				t.Errorf("%s: %d %s", tc.name, status, body)
			}
			continue
		}
		if status != http.StatusOK {
			t.Errorf("%s: %d %s", tc.name, status, body)
			continue
		}
		if got := claimsOf(t, c, token)[tc.claim]; got != tc.value {
			t.Errorf("%s: %s is %v, want %v", tc.name, tc.claim, got, tc.value)
		}
	}
	dir := guest(t, c, platform.GuestConfig{WrongHostData: true})
	token, _, _ := attest(t, c, gather(t, dir, newEphemeral(t).jwks))
	if got := claimsOf(t, c, token)["x-ms-sevsnpvm-hostdata"]; got == hostData(containerPolicy) {
		t.Error("host data of a guest launched under another policy is the shown policy's")
	}
}

func TestAttestationRefusesChangedEvidence(t *testing.T) {
	c := theCloud(t)
	good := gather(t, guest(t, c, platform.GuestConfig{}), newEphemeral(t).jwks)
	flip := func(b []byte, at int) []byte {
		out := slices.Clone(b)
		out[at] ^= 1
		return out
	}
	for _, tc := range []struct {
		name   string
		change func(*evidence)
		text   string
	}{
		{"report", func(e *evidence) { e.report = flip(e.report, 0xC0) }, "report signature verification error"},
		{"report signature", func(e *evidence) { e.report = flip(e.report, 0x2A0) }, "report signature verification error"},
		{"short report", func(e *evidence) { e.report = e.report[:1183] }, "SnpReport is 1183 bytes, not 1184"},
		{"runtime data", func(e *evidence) { e.runtime = append(e.runtime, ' ') }, "does not match the report's REPORT_DATA"},
		{"runtime not JSON", func(e *evidence) { e.runtime = []byte("x") }, "declared JSON"},
		{"data type", func(e *evidence) { e.dataType = "Text" }, `dataType \"Text\"`},
		{"no chain", func(e *evidence) { e.chain = nil }, "holds no PEM certificate"},
		{"endorsement payload", func(e *evidence) {
			at := slices.Index(e.endorsement, '{') // the payload's first brace
			e.endorsement = flip(e.endorsement, at+8)
		}, "utility VM endorsement"},
		{"endorsement signature", func(e *evidence) { e.endorsement = flip(e.endorsement, len(e.endorsement)-1) }, "utility VM endorsement: verification error"},
		{"no endorsement", func(e *evidence) { e.endorsement = nil }, "utility VM endorsement"},
	} {
		e := good
		tc.change(&e)
		if _, status, body := attest(t, c, e); status != http.StatusBadRequest || !strings.Contains(string(body), tc.text) {
			t.Errorf("%s: %d %s", tc.name, status, body)
		}
	}
	for name, query := range map[string]string{"is missing": "", "is not supported": "?api-version=2018-09-01-preview"} {
		if status, body := postAttestation(t, c, query, good.body()); status != http.StatusBadRequest || !strings.Contains(string(body), name) {
			t.Errorf("%q: %d %s", query, status, body)
		}
	}
	for _, body := range []string{"", "{", "[]", `{"report":"!"}`, `{"report":""}`} {
		if status, answer := postAttestation(t, c, attestVersion, []byte(body)); status != http.StatusBadRequest || !strings.Contains(string(answer), `"error"`) {
			t.Errorf("%q: %d %s", body, status, answer)
		}
	}
	if resp := get(t, c, c.Endpoints().Attestation+"/attest/SgxEnclave"+attestVersion, nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("another operation: %d", resp.StatusCode)
	}
}

// Another simulated cloud's evidence is as foreign as real evidence.
func TestAttestationTrustsItsOwnPlatformAlone(t *testing.T) {
	c := theCloud(t)
	other := startIn(t, newDir(t))
	e := gather(t, guest(t, other, platform.GuestConfig{}), newEphemeral(t).jwks)
	if _, status, body := attest(t, c, e); status != http.StatusBadRequest || !strings.Contains(string(body), "trusted roots") {
		t.Errorf("another platform's evidence: %d %s", status, body)
	}

	const name = "caci-milan-encryption/maa-request.json"
	request, err := os.ReadFile(filepath.Join("../../../shared/evidence", name))
	if err != nil {
		t.Skipf("real evidence is not beside this repository: %v", err)
	}
	if status, body := postAttestation(t, c, attestVersion, request); status != http.StatusBadRequest || !strings.Contains(string(body), "trusted roots") {
		t.Errorf("real evidence: %d %s", status, body)
	}
}

func TestAttestationKeyRotation(t *testing.T) {
	dir := newDir(t)
	c := startIn(t, dir)
	e := gather(t, guest(t, c, platform.GuestConfig{}), newEphemeral(t).jwks)
	before, _, _ := attest(t, c, e)
	if err := c.RotateAttestationKey(); err != nil {
		t.Fatal(err)
	}
	after, _, _ := attest(t, c, e)
	kid := func(token string) string {
		header, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
		var h struct{ Kid string }
		if err := json.Unmarshal(header, &h); err != nil {
			t.Fatal(err)
		}
		return h.Kid
	}
	if kid(before) == kid(after) {
		t.Error("the key did not change")
	}
	c.Close()
	c = startIn(t, dir)
	for _, token := range []string{before, after} {
		claimsOf(t, c, token)
	}
}
