package evidence_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"cloister/enclave/evidence"
	"cloister/enclave/snp"
	"cloister/enclave/snp/simulated"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"
)

// testDir keeps the simulated processor's keys while the tests run.
var testDir string

func TestMain(m *testing.M) {
	code := func() int {
		dir, err := os.MkdirTemp("", "cloister-evidence-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		testDir = dir
		return m.Run()
	}()
	os.Exit(code)
}

var processor = sync.OnceValues(func() (*platform.Platform, error) { return platform.Load(wire.Keys{Dir: testDir}) })

const policyText = "package ledger_policy\n"

func digest(text string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))) }

// guest is a machine under the policy, or as config says.
func guest(t *testing.T, config platform.GuestConfig) string {
	t.Helper()
	p, err := processor()
	if err != nil {
		t.Fatal(err)
	}
	if config.Policy == nil {
		config.Policy = []byte(policyText)
	}
	g, err := p.Launch(filepath.Join(t.TempDir(), "guest"), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g.Dir
}

// shown is what a machine shows about a statement.
func shown(t *testing.T, dir string, about snp.Statement) statement.Evidence {
	t.Helper()
	e, err := snp.Collect(t.Context(), simulated.New(dir), about)
	if err != nil {
		t.Fatal(err)
	}
	return statement.Evidence{Platform: "simulated-sev-snp", Report: e.Report, Certificates: e.HostCerts.PEM(), Endorsement: e.UVM}
}

func judgeOf(t *testing.T, dir string) evidence.Judge {
	t.Helper()
	j, err := evidence.Named("simulated:"+dir, 100)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

var (
	ledger = snp.Ledger{Key: "ledger.example+47b56cb0+AQcH", TLSKey: []byte("tls key")}
	run    = snp.Identity{RunID: [16]byte{1}, ContractDigest: [32]byte{2}, AuditKey: []byte("audit"), TLSKey: []byte("tls key")}
)

// begin is what a run begins with that shows this evidence.
func begin(e statement.Evidence) *statement.RunBegin {
	return &statement.RunBegin{Run: statement.Run{ID: fmt.Sprintf("%x", run.RunID)}, ContractDigest: fmt.Sprintf("sha256:%x", run.ContractDigest),
		AuditKey: run.AuditKey, TLSKey: run.TLSKey, Evidence: e}
}

// refused wants an error of kind fault.Refused that names the check.
func refused(t *testing.T, err error, want string) {
	t.Helper()
	if fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want a refusal that says %q", err, want)
	}
}

// TestJudges: what a run and a ledger show is believed as long as all of it is as
// they say; each thing that is not is named.
func TestJudges(t *testing.T) {
	dir := guest(t, platform.GuestConfig{})
	judge := judgeOf(t, dir)
	ofRun, ofLedger := shown(t, dir, run), shown(t, dir, ledger)
	check := func(e statement.Evidence) error {
		return judge.Ledger(e, ledger.TLSKey, ledger.Key, digest(policyText))
	}
	checkRun := func(e statement.Evidence) error {
		return judge.Run(begin(e), statement.Contract{ContainerPolicy: digest(policyText)})
	}
	if err := check(ofLedger); err != nil {
		t.Error(err)
	}
	if err := checkRun(ofRun); err != nil {
		t.Error(err)
	}

	other := guest(t, platform.GuestConfig{Policy: []byte("package other\n")})
	debug := guest(t, platform.GuestConfig{Debug: true})
	changed := func(change func(*statement.Evidence)) statement.Evidence {
		e := ofLedger
		e.Report = append([]byte(nil), e.Report...)
		change(&e)
		return e
	}
	for name, c := range map[string]struct {
		e    statement.Evidence
		want string
	}{
		"another container's":         {shown(t, other, ledger), "host data"},
		"a debug guest's":             {shown(t, debug, ledger), "debug"},
		"a run's":                     {ofRun, "report data"},
		"about another key":           {shown(t, dir, snp.Ledger{Key: ledger.Key + "x", TLSKey: ledger.TLSKey}), "report data"},
		"about another TLS key":       {shown(t, dir, snp.Ledger{Key: ledger.Key, TLSKey: []byte("another")}), "report data"},
		"about key release":           {shown(t, dir, snp.KeyRelease{RuntimeData: []byte("{}")}), "report data"},
		"of another platform":         {changed(func(e *statement.Evidence) { e.Platform = "sev-snp" }), "platform"},
		"a changed report":            {changed(func(e *statement.Evidence) { e.Report[0x50] ^= 1 }), "signature"},
		"no report":                   {changed(func(e *statement.Evidence) { e.Report = nil }), "report"},
		"no certificates":             {changed(func(e *statement.Evidence) { e.Certificates = nil }), "certificate"},
		"certificates that are none":  {changed(func(e *statement.Evidence) { e.Certificates = []byte("none") }), "certificate"},
		"no endorsement":              {changed(func(e *statement.Evidence) { e.Endorsement = nil }), "endorsement"},
		"an endorsement that is none": {changed(func(e *statement.Evidence) { e.Endorsement = []byte{1} }), "endorsement"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, check(c.e), c.want) })
	}
	t.Run("a ledger's for a run's", func(t *testing.T) { refused(t, checkRun(ofLedger), "report data") })
	t.Run("a run of another policy", func(t *testing.T) {
		refused(t, judge.Run(begin(ofRun), statement.Contract{ContainerPolicy: digest("x")}), "host data")
	})
	t.Run("no policy", func(t *testing.T) {
		refused(t, judge.Ledger(ofLedger, ledger.TLSKey, ledger.Key, ""), "container policy")
	})
	t.Run("no key", func(t *testing.T) { refused(t, judge.Ledger(ofLedger, nil, ledger.Key, digest(policyText)), "needs") })
	t.Run("an old utility VM", func(t *testing.T) {
		strict := judge
		strict.MinUVMSVN = 1 << 30
		refused(t, strict.Ledger(ofLedger, ledger.TLSKey, ledger.Key, digest(policyText)), "UVM SVN")
	})
	for name, change := range map[string]func(*statement.RunBegin){
		"a run's id that is none":   func(b *statement.RunBegin) { b.Run.ID = "x" },
		"a contract that is none":   func(b *statement.RunBegin) { b.ContractDigest = "sha256:" },
		"another run's id":          func(b *statement.RunBegin) { b.Run.ID = strings.Repeat("ab", 16) },
		"another contract":          func(b *statement.RunBegin) { b.ContractDigest = digest("x") },
		"another audit key":         func(b *statement.RunBegin) { b.AuditKey = []byte("x") },
		"another TLS key than that": func(b *statement.RunBegin) { b.TLSKey = []byte("x") },
	} {
		t.Run(name, func(t *testing.T) {
			b := begin(ofRun)
			change(b)
			refused(t, judge.Run(b, statement.Contract{ContainerPolicy: digest(policyText)}), "")
		})
	}
}

// TestRealEvidenceOfAnother: a genuine report of the hardware, which is about
// something else, makes nobody's ledger or run of it.
func TestRealEvidenceOfAnother(t *testing.T) {
	folder := filepath.Join("..", "..", "..", "shared", "evidence", "caci-milan-signing")
	raw, err := os.ReadFile(filepath.Join(folder, "attestation.json"))
	if os.IsNotExist(err) {
		t.Skip("the real evidence in ../shared/evidence is not on this machine")
	}
	var file struct {
		Report struct {
			SNP struct{ Attestation, PlatformCertificates, UVMEndorsements string } `json:"snpCACI"`
		}
	}
	if err == nil {
		err = json.Unmarshal(raw, &file)
	}
	if err != nil {
		t.Fatal(err)
	}
	e := statement.Evidence{Platform: "sev-snp", Report: decoded(t, file.Report.SNP.Attestation), Certificates: []byte(file.Report.SNP.PlatformCertificates),
		Endorsement: decoded(t, file.Report.SNP.UVMEndorsements)}
	judge, err := evidence.Named("amd", 100)
	if err != nil {
		t.Fatal(err)
	}
	host := fmt.Sprintf("sha256:%x", e.Report[0xc0:0xe0]) // HOST_DATA, AMD 56860
	err = judge.Ledger(e, ledger.TLSKey, ledger.Key, host)
	refused(t, err, "report data")
	if strings.Contains(strings.ToLower(err.Error()), "host data") || strings.Contains(err.Error(), "signature") {
		t.Errorf("of a genuine report more is refused: %v", err)
	}
	refused(t, judge.Run(begin(e), statement.Contract{ContainerPolicy: host}), "report data")
	refused(t, judgeOf(t, guest(t, platform.GuestConfig{})).Ledger(e, ledger.TLSKey, ledger.Key, host), "platform")
}

func decoded(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestNamed(t *testing.T) {
	for _, name := range []string{"", "AMD", "simulated", "intel:x"} {
		if _, err := evidence.Named(name, 1); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := evidence.Named("simulated:"+t.TempDir(), 1); err == nil {
		t.Error("a folder that plays nothing is believed")
	}
}
