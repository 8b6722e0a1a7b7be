//go:build !production

package evidence_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloister/enclave/evidence"
	"cloister/enclave/snp"
	"cloister/enclave/snp/simulated"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"
)

const policy = "package policy\n"

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// guest launches a guest of a processor of its own, and returns its directory.
func guest(t *testing.T, c platform.GuestConfig) string {
	t.Helper()
	p, err := platform.Load(wire.Keys{Dir: t.TempDir()})
	check(t, err)
	dir, err := os.MkdirTemp("", "guest") // a socket's path must be short
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	c.Policy = []byte(policy)
	g, err := p.Launch(dir, c)
	check(t, err)
	t.Cleanup(func() { g.Close() })
	return dir
}

// begun is what a run in the guest begins with, and the contract it is under.
func begun(t *testing.T, dir string) (*statement.RunBegin, statement.Contract) {
	t.Helper()
	id := snp.Identity{RunID: [16]byte{1}, ContractDigest: sha256.Sum256([]byte("contract")), AuditKey: []byte("audit"), TLSKey: []byte("tls")}
	e, err := snp.Collect(t.Context(), simulated.New(dir), id)
	check(t, err)
	return &statement.RunBegin{AuditKey: id.AuditKey, ContractDigest: digestOf("contract"), TLSKey: id.TLSKey,
		Evidence: statement.Evidence{Platform: "simulated-sev-snp", Report: e.Report, Certificates: e.HostCerts.PEM(), Endorsement: e.UVM},
		Run:      statement.Run{ID: hex.EncodeToString(id.RunID[:])}}, statement.Contract{ContainerPolicy: digestOf(policy)}
}

func judgeOf(t *testing.T, dir string) evidence.Judge {
	t.Helper()
	j, err := evidence.Named("simulated:"+dir, 100)
	check(t, err)
	return j
}

// refused holds an error to be a refusal that names what failed.
func refused(t *testing.T, err error, names string) {
	t.Helper()
	if fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), names) {
		t.Errorf("got %v, want a refusal that names %q", err, names)
	}
}

// TestGuests: a good guest's evidence is good, and one that is bad in one way is
// refused by the name of it.
func TestGuests(t *testing.T) {
	for names, c := range map[string]platform.GuestConfig{
		"":                   {},
		"debugging":          {Debug: true},
		"migration":          {Migration: true},
		"VMPL":               {VMPL: 2},
		"host data":          {WrongHostData: true},
		"launch measurement": {WrongMeasurement: true},
		"UVM SVN":            {LowSVN: true},
		"report data":        {Replay: true},
		"revocation":         {Revoked: true},
	} {
		t.Run(names, func(t *testing.T) {
			dir := guest(t, c)
			begin, contract := begun(t, dir)
			err := judgeOf(t, dir).Run(begin, contract)
			if names == "" {
				check(t, err)
				return
			}
			refused(t, err, names)
		})
	}
}

// TestWhatARunBeginsWithIsBound: of a good guest's evidence, each part that is
// another's, or is not there, is refused by name.
func TestWhatARunBeginsWithIsBound(t *testing.T) {
	dir := guest(t, platform.GuestConfig{})
	judge := judgeOf(t, dir)
	foreign, _ := begun(t, guest(t, platform.GuestConfig{}))
	for name, tc := range map[string]struct {
		change func(*statement.RunBegin, *statement.Contract)
		names  string
	}{
		"another platform":         {func(b *statement.RunBegin, _ *statement.Contract) { b.Evidence.Platform = "sev-snp" }, "it is of platform"},
		"another run":              {func(b *statement.RunBegin, _ *statement.Contract) { b.Run.ID = strings.Repeat("02", 16) }, "report data"},
		"no run":                   {func(b *statement.RunBegin, _ *statement.Contract) { b.Run.ID = "" }, "the run's id"},
		"a run that is no number":  {func(b *statement.RunBegin, _ *statement.Contract) { b.Run.ID = strings.Repeat("xy", 16) }, "the run's id"},
		"another contract":         {func(b *statement.RunBegin, _ *statement.Contract) { b.ContractDigest = digestOf("x") }, "report data"},
		"a contract of 31 bytes":   {func(b *statement.RunBegin, _ *statement.Contract) { b.ContractDigest = b.ContractDigest[:69] }, "the contract's digest"},
		"another audit key":        {func(b *statement.RunBegin, _ *statement.Contract) { b.AuditKey = []byte("other") }, "report data"},
		"no audit key":             {func(b *statement.RunBegin, _ *statement.Contract) { b.AuditKey = nil }, "an audit key"},
		"another TLS key":          {func(b *statement.RunBegin, _ *statement.Contract) { b.TLSKey = []byte("other") }, "report data"},
		"no TLS key":               {func(b *statement.RunBegin, _ *statement.Contract) { b.TLSKey = nil }, "a TLS key"},
		"keys exchanged":           {func(b *statement.RunBegin, _ *statement.Contract) { b.AuditKey, b.TLSKey = b.TLSKey, b.AuditKey }, "report data"},
		"another container policy": {func(_ *statement.RunBegin, k *statement.Contract) { k.ContainerPolicy = digestOf("x") }, "host data"},
		"no container policy":      {func(_ *statement.RunBegin, k *statement.Contract) { k.ContainerPolicy = "" }, "container policy"},
		"another processor's":      {func(b *statement.RunBegin, _ *statement.Contract) { b.Evidence = foreign.Evidence }, "signature"},
		"another's certificates": {func(b *statement.RunBegin, _ *statement.Contract) {
			b.Evidence.Certificates = foreign.Evidence.Certificates
		}, "signature"},
		"no certificates":          {func(b *statement.RunBegin, _ *statement.Contract) { b.Evidence.Certificates = nil }, "certificate"},
		"certificates that are no": {func(b *statement.RunBegin, _ *statement.Contract) { b.Evidence.Certificates = []byte("x") }, "certificate"},
		"another's endorsement": {func(b *statement.RunBegin, _ *statement.Contract) {
			b.Evidence.Endorsement = foreign.Evidence.Endorsement
		}, "UVM issuer"},
		"no endorsement": {func(b *statement.RunBegin, _ *statement.Contract) { b.Evidence.Endorsement = nil }, "UVM endorsement"},
		"no report":      {func(b *statement.RunBegin, _ *statement.Contract) { b.Evidence.Report = nil }, "report format"},
		"a report with a bit more": {func(b *statement.RunBegin, _ *statement.Contract) {
			b.Evidence.Report = bytes.Clone(b.Evidence.Report)
			b.Evidence.Report[0x48] ^= 1 // in the guest policy
		}, "signature"},
	} {
		t.Run(name, func(t *testing.T) {
			begin, contract := begun(t, dir)
			check(t, judge.Run(begin, contract))
			tc.change(begin, &contract)
			refused(t, judge.Run(begin, contract), tc.names)
		})
	}
}

// TestSimulatedIsNotAMD: neither passes for the other, whatever it is called.
func TestSimulatedIsNotAMD(t *testing.T) {
	begin, contract := begun(t, guest(t, platform.GuestConfig{}))
	amd, err := evidence.Named("amd", 100)
	check(t, err)
	refused(t, amd.Run(begin, contract), "it is of platform")
	begin.Evidence.Platform = amd.Platform
	refused(t, amd.Run(begin, contract), "signature")
}

func TestTheZeroJudgeRefuses(t *testing.T) {
	begin, contract := begun(t, guest(t, platform.GuestConfig{}))
	j := evidence.Judge{Platform: begin.Evidence.Platform}
	refused(t, j.Run(begin, contract), "signature")
}

func TestNamedRefuses(t *testing.T) {
	for name, kind := range map[string]fault.Kind{"": fault.Usage, "intel": fault.Usage, "simulated": fault.Usage, "simulated:" + t.TempDir(): fault.NotFound} {
		if _, err := evidence.Named(name, 100); fault.KindOf(err) != kind {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// real reads a file of the public evidence that lies beside the project, and skips
// where it does not.
func real(t *testing.T, name string) []byte {
	t.Helper()
	folder := filepath.Join("..", "..", "..", "shared", "evidence")
	if _, err := os.Stat(folder); os.IsNotExist(err) {
		t.Skip("the real evidence in ../shared/evidence is not on this machine")
	}
	raw, err := os.ReadFile(filepath.Join(folder, name))
	check(t, err)
	return raw
}

func decode64(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	check(t, err)
	return raw
}

// ofHardware is a run that shows evidence of real hardware, which is about
// something else, under the policy that the hardware vouches for.
func ofHardware(e statement.Evidence, t *testing.T) (*statement.RunBegin, statement.Contract) {
	t.Helper()
	e.Platform = "sev-snp"
	r, err := snp.ParseReport(e.Report)
	check(t, err)
	return &statement.RunBegin{AuditKey: []byte("audit"), ContractDigest: digestOf("contract"), Evidence: e, Run: statement.Run{ID: strings.Repeat("01", 16)},
		TLSKey: []byte("tls")}, statement.Contract{ContainerPolicy: "sha256:" + hex.EncodeToString(r.HostData[:])}
}

// TestRealHardware: genuine evidence that is not about this run is refused for
// that, and for nothing else but what is wrong with it.
func TestRealHardware(t *testing.T) {
	var signing struct {
		Report struct {
			SNP struct{ Attestation, PlatformCertificates, UVMEndorsements string } `json:"snpCACI"`
		}
	}
	check(t, json.Unmarshal(real(t, "caci-milan-signing/attestation.json"), &signing))
	s := signing.Report.SNP
	judge, err := evidence.Named("amd", 100)
	check(t, err)
	for name, tc := range map[string]struct {
		evidence    statement.Evidence
		names, good string
	}{
		"of today": {statement.Evidence{Report: decode64(t, s.Attestation), Certificates: []byte(s.PlatformCertificates), Endorsement: decode64(t, s.UVMEndorsements)}, "report data", "UVM SVN"},
		"of an old utility VM": {statement.Evidence{Report: real(t, "caci-milan-svn22/snp_report.bin"), Certificates: real(t, "caci-milan-svn22/uvm_host_amd_certificate.json"),
			Endorsement: real(t, "caci-milan-svn22/body.uvm_reference_info.bin")}, "UVM SVN", "launch measurement"},
	} {
		t.Run(name, func(t *testing.T) {
			begin, contract := ofHardware(tc.evidence, t)
			err := judge.Run(begin, contract)
			refused(t, err, tc.names)
			for _, passed := range []string{tc.good, "signature", "host data", "debugging"} {
				if err != nil && strings.Contains(err.Error(), passed) {
					t.Errorf("%q is refused too: %v", passed, err)
				}
			}
			begin.Evidence.Platform = "simulated-sev-snp"
			refused(t, judge.Run(begin, contract), "it is of platform")
		})
	}
}
