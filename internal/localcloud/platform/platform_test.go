package platform

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloister/internal/fault"
	"cloister/internal/localcloud/wire"
	"cloister/policy/cce"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"
	"github.com/veraison/go-cose"
)

func load(t *testing.T) *Platform {
	t.Helper()
	p, err := Load(wire.Keys{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// shortDir is a directory whose sockets fit: t.TempDir holds the test's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "guest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func launchGuest(t *testing.T, p *Platform, c GuestConfig) string {
	t.Helper()
	if c.Policy == nil {
		c.Policy = []byte("package policy\n")
	}
	dir := shortDir(t)
	g, err := p.Launch(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return dir
}

func post(t *testing.T, dir string, body []byte) (int, []byte) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, SocketFile))
		}}}
	resp, err := client.Post("http://guest/report", "application/octet-stream", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, data
}

func report(t *testing.T, dir string, data [64]byte) *spb.Report {
	t.Helper()
	status, raw := post(t, dir, data[:])
	if status != http.StatusOK || len(raw) != abi.ReportSize {
		t.Fatalf("status %d, %d bytes: %s", status, len(raw), raw)
	}
	r, err := abi.ReportToProto(raw)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func vcek(t *testing.T, dir string) (*x509.Certificate, thim) {
	t.Helper()
	encoded, err := os.ReadFile(filepath.Join(dir, CertificatesFile))
	if err != nil {
		t.Fatal(err)
	}
	text, err := base64.StdEncoding.DecodeString(string(encoded))
	if err != nil {
		t.Fatal(err)
	}
	var certs thim
	if err := json.Unmarshal(text, &certs); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(certs.VCEK))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert, certs
}

// verifyUnder verifies a guest's report, its chain under the roots given; nil
// means AMD's own, embedded in the library.
func verifyUnder(r *spb.Report, cert *x509.Certificate, roots map[string][]*trust.AMDRootCerts) error {
	return verify.SnpAttestation(&spb.Attestation{Report: r, CertificateChain: &spb.CertificateChain{VcekCert: cert.Raw}},
		&verify.Options{DisableCertFetching: true, TrustedRoots: roots})
}

func simulatedRoots(t *testing.T, dir string) map[string][]*trust.AMDRootCerts {
	t.Helper()
	root, err := os.ReadFile(filepath.Join(dir, RootFile))
	if err != nil {
		t.Fatal(err)
	}
	_, certs := vcek(t, dir)
	if !strings.HasSuffix(certs.Chain, string(root)) {
		t.Fatal("the THIM chain does not end with the root to trust")
	}
	product := trust.AMDRootCertsProduct(productLine)
	if err := product.FromKDSCertBytes([]byte(certs.Chain)); err != nil {
		t.Fatal(err)
	}
	return map[string][]*trust.AMDRootCerts{productLine: {product}}
}

func TestReportVerifiesUnderTheSimulatedRootAlone(t *testing.T) {
	p := load(t)
	for _, version := range []uint32{0, 2, 3, 4, 5} {
		dir := launchGuest(t, p, GuestConfig{ReportVersion: version})
		data := [64]byte{1, 2, 3}
		r := report(t, dir, data)
		if !bytes.Equal(r.ReportData, data[:]) {
			t.Errorf("version %d: REPORT_DATA is not what the guest sent", version)
		}
		cert, _ := vcek(t, dir)
		if err := verifyUnder(r, cert, simulatedRoots(t, dir)); err != nil {
			t.Errorf("version %d: %v", version, err)
		}
		if err := verifyUnder(r, cert, nil); err == nil || !strings.Contains(err.Error(), "could not be verified by any trusted roots") {
			t.Errorf("version %d: AMD's roots answer %v", version, err)
		}
		r.ReportData[0] ^= 1
		if err := verifyUnder(r, cert, simulatedRoots(t, dir)); err == nil {
			t.Errorf("version %d: a changed report verifies", version)
		}
	}
}

func TestEverythingSaysSimulated(t *testing.T) {
	p := load(t)
	dir := launchGuest(t, p, GuestConfig{})
	cert, _ := vcek(t, dir)
	ask, ark := p.Chain()
	for _, c := range []*x509.Certificate{cert, ask, ark, p.EndorsementRoot(), p.endorser.leaf} {
		if !strings.Contains(c.Subject.String(), "imulated platform") {
			t.Errorf("subject %q does not say that it is simulated", c.Subject)
		}
	}
}

func TestGuestsAreGoodOrBadInOneWay(t *testing.T) {
	p := load(t)
	policy := []byte("package policy\n\nallow := true\n")
	hostData := sha256.Sum256(policy)
	measurement := Measurement()
	debug := func(r *spb.Report) bool { return r.Policy&(1<<19) != 0 }
	good := map[string]func(*spb.Report) bool{
		"debug":       func(r *spb.Report) bool { return !debug(r) },
		"migration":   func(r *spb.Report) bool { return r.Policy&(1<<18) == 0 },
		"vmpl":        func(r *spb.Report) bool { return r.Vmpl == 0 },
		"host data":   func(r *spb.Report) bool { return bytes.Equal(r.HostData, hostData[:]) },
		"measurement": func(r *spb.Report) bool { return bytes.Equal(r.Measurement, measurement[:]) },
		"tcb":         func(r *spb.Report) bool { return kds.DecomposeTCBVersion(kds.TCBVersion(r.ReportedTcb)) == goodTCB },
		"report data": func(r *spb.Report) bool { return r.ReportData[0] == 7 },
	}
	for _, tc := range []struct {
		name   string
		config GuestConfig
		bad    string
	}{
		{"good", GuestConfig{}, ""},
		{"debug", GuestConfig{Debug: true}, "debug"},
		{"migration", GuestConfig{Migration: true}, "migration"},
		{"vmpl 2", GuestConfig{VMPL: 2}, "vmpl"},
		{"host data", GuestConfig{WrongHostData: true}, "host data"},
		{"measurement", GuestConfig{WrongMeasurement: true}, "measurement"},
		{"old tcb", GuestConfig{OldTCB: true}, "tcb"},
		{"replay", GuestConfig{Replay: true}, "report data"},
		{"low svn", GuestConfig{LowSVN: true}, ""},
		{"stale certificates", GuestConfig{StaleCertificates: true}, ""},
	} {
		tc.config.Policy = policy
		dir := launchGuest(t, p, tc.config)
		r := report(t, dir, [64]byte{7})
		for name, holds := range good {
			if holds(r) != (name != tc.bad) {
				t.Errorf("%s guest: %s holds: %v", tc.name, name, holds(r))
			}
		}
		cert, certs := vcek(t, dir)
		exts, err := kds.VcekCertificateExtensions(cert)
		if err != nil {
			t.Fatal(err)
		}
		if same := uint64(exts.TCBVersion) == r.ReportedTcb; same == tc.config.StaleCertificates {
			t.Errorf("%s guest: the certificate is for the report's TCB: %v", tc.name, same)
		}
		if certs.TCB != hexTCB(exts.TCBVersion) {
			t.Errorf("%s guest: tcbm %s, the certificate's is %s", tc.name, certs.TCB, hexTCB(exts.TCBVersion))
		}
		if !bytes.Equal(exts.HWID, r.ChipId) {
			t.Errorf("%s guest: the certificate is for another chip", tc.name)
		}
	}
}

// TestHostDataIsThePolicyInTheTemplate: the guest that is launched with what a
// template hands the platform reports the SHA-256 of exactly that.
func TestHostDataIsThePolicyInTheTemplate(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "policy", "template", "testdata", "aci.json"))
	if err != nil {
		t.Fatal(err)
	}
	var template struct {
		Resources []struct {
			Properties struct{ ConfidentialComputeProperties struct{ CCEPolicy []byte } }
		}
	}
	if err := json.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	policy := template.Resources[0].Properties.ConfidentialComputeProperties.CCEPolicy
	if !bytes.HasPrefix(policy, []byte("package policy\n")) {
		t.Fatalf("the template holds %.40q", policy)
	}
	want := cce.HostData(policy)
	if got := report(t, launchGuest(t, load(t), GuestConfig{Policy: policy}), [64]byte{}).HostData; !bytes.Equal(got, want[:]) || want != sha256.Sum256(policy) {
		t.Errorf("HOST_DATA %x, the policy in the template has %x", got, want)
	}
}

func TestEndorsement(t *testing.T) {
	p := load(t)
	measurement := Measurement()
	for _, tc := range []struct {
		config GuestConfig
		svn    string
	}{{GuestConfig{}, "104"}, {GuestConfig{LowSVN: true}, "22"}} {
		dir := launchGuest(t, p, tc.config)
		encoded, err := os.ReadFile(filepath.Join(dir, EndorsementFile))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := base64.StdEncoding.DecodeString(string(encoded))
		if err != nil {
			t.Fatal(err)
		}
		message := cose.NewSign1Message()
		if err := message.UnmarshalCBOR(raw); err != nil {
			t.Fatal(err)
		}
		verifier, err := cose.NewVerifier(cose.AlgorithmPS384, p.endorser.key.Public())
		if err != nil {
			t.Fatal(err)
		}
		if err := message.Verify(nil, verifier); err != nil {
			t.Error(err)
		}
		issuer, err := os.ReadFile(filepath.Join(dir, IssuerFile))
		if err != nil {
			t.Fatal(err)
		}
		header := message.Headers.Protected
		if header["iss"] != strings.TrimSpace(string(issuer)) || header["feed"] != Feed || len(header[cose.HeaderLabelX5Chain].([]any)) != 2 {
			t.Errorf("protected header: %v", header)
		}
		var payload map[string]string
		if err := json.Unmarshal(message.Payload, &payload); err != nil {
			t.Fatal(err)
		}
		if payload["x-ms-sevsnpvm-guestsvn"] != tc.svn || len(payload["x-ms-sevsnpvm-launchmeasurement"]) != 2*len(measurement) {
			t.Errorf("payload: %v", payload)
		}
	}
}

func TestRevocationList(t *testing.T) {
	p := load(t)
	ask, ark := p.Chain()
	for _, revoked := range []bool{false, true} {
		dir := launchGuest(t, p, GuestConfig{Revoked: revoked})
		der, err := os.ReadFile(filepath.Join(dir, RevocationFile))
		if err != nil {
			t.Fatal(err)
		}
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := list.CheckSignatureFrom(ark); err != nil {
			t.Error(err)
		}
		found := slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(ask.SerialNumber) == 0 })
		if found != revoked {
			t.Errorf("revoked %v, on the list %v", revoked, found)
		}
	}
}

func TestReportRequestOfAnotherLength(t *testing.T) {
	dir := launchGuest(t, load(t), GuestConfig{})
	for _, n := range []int{0, 63, 65, 4096} {
		if status, body := post(t, dir, make([]byte, n)); status != http.StatusBadRequest || !strings.Contains(string(body), "64 bytes") {
			t.Errorf("%d bytes: %d %q", n, status, body)
		}
	}
}

func TestLaunchRefusals(t *testing.T) {
	p := load(t)
	policy := []byte("p")
	running := launchGuest(t, p, GuestConfig{})
	for _, tc := range []struct {
		name   string
		dir    string
		config GuestConfig
		kind   fault.Kind
		text   string
	}{
		{"no policy", shortDir(t), GuestConfig{}, fault.Usage, "the policy is empty"},
		{"version", shortDir(t), GuestConfig{Policy: policy, ReportVersion: 6}, fault.Usage, "no report version 6"},
		{"long path", filepath.Join(shortDir(t), strings.Repeat("d", 120)), GuestConfig{Policy: policy}, fault.Usage, "longer than 103 bytes"},
		{"taken", running, GuestConfig{Policy: policy}, fault.Conflict, "a running process answers"},
	} {
		_, err := p.Launch(tc.dir, tc.config)
		if err == nil || fault.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v (kind %v)", tc.name, err, fault.KindOf(err))
		}
	}
}

func TestCloseRemovesTheSocketAndLaunchTakesTheDirectoryAgain(t *testing.T) {
	p := load(t)
	dir := shortDir(t)
	for range 2 {
		g, err := p.Launch(dir, GuestConfig{Policy: []byte("p")})
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(filepath.Join(dir, SocketFile)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("socket: %v %v", info, err)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, SocketFile)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("socket after Close: %v", err)
		}
	}
}

func TestLoadKeepsTheProcessor(t *testing.T) {
	keys := wire.Keys{Dir: t.TempDir()}
	a, err := Load(keys)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Load(keys)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Root(), b.Root()) || a.Issuer() != b.Issuer() || a.chain.hwid != b.chain.hwid {
		t.Error("a second Load gives another processor")
	}
}
