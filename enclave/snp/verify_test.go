package snp

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/kds"
	sevtest "github.com/google/go-sev-guest/testing"
	"github.com/google/go-sev-guest/verify/testdata"
	"github.com/veraison/go-cose"

	"cloister/internal/fault"
)

// wantOnly asserts that exactly the named checks failed, with these words.
func wantOnly(t *testing.T, res *Result, err error, texts ...string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != fault.Refused {
		t.Fatalf("got %v, want a refusal", err)
	}
	var failed []string
	for _, c := range res.Checks {
		if !c.OK {
			failed = append(failed, c.Name+": expected "+c.Expected+", got "+c.Actual)
		}
	}
	if len(failed) != len(texts) {
		t.Fatalf("failed checks %q, want %q", failed, texts)
	}
	for i, text := range texts {
		if !strings.Contains(failed[i], text) || !strings.Contains(err.Error(), failed[i]) {
			t.Errorf("check %q in error %q, want %q", failed[i], err, text)
		}
	}
}

func TestEveryProcessorAndReportVersion(t *testing.T) {
	for product := range eaxOf {
		for _, version := range []uint32{2, 3, 4, 5} {
			for _, vlek := range []bool{false, true} {
				if product == "Turin-B1" && version < 3 {
					continue // its firmware never made such a report, and its layout shows from 3 on
				}
				g := goodGuest()
				g.product, g.version, g.vlek = product, version, vlek
				e, want := g.evidence(t)
				if _, err := Verify(e, want); err != nil {
					t.Errorf("%s, version %d, VLEK %v: %v", product, version, vlek, err)
				}
			}
		}
	}
}

func TestBadGuests(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*guest)
		want   []string
	}{
		{"debugging", func(g *guest) { g.report.Policy |= 1 << 19 }, []string{"debugging: expected false, got true"}},
		{"migration", func(g *guest) { g.report.Policy |= 1 << 18 }, []string{"migration: expected false, got true"}},
		{"no SMT", func(g *guest) { g.report.Policy &^= 1 << 16 }, []string{"SMT: expected allowed, got forbidden"}},
		{"VMPL 2", func(g *guest) { g.report.Vmpl = 2 }, []string{"VMPL: expected 0, got 2"}},
		{"asked for by the host", func(g *guest) { g.report.Vmpl = 0xffffffff }, []string{"VMPL: expected 0, got 4294967295"}},
		{"host data", func(g *guest) { g.report.HostData[31] ^= 1 }, []string{"host data: expected 3333"}},
		{"replayed report", func(g *guest) { g.report.ReportData[0] ^= 1 }, []string{"report data: expected 2222"}},
		{"measurement", func(g *guest) { g.report.Measurement[0] ^= 1 }, []string{"launch measurement: expected 1111"}},
		{"old TCB", func(g *guest) {
			g.certTCB.SnpSpl = 7
			tcb, _ := kds.ComposeTCBParts(g.certTCB)
			g.report.ReportedTcb = uint64(tcb)
		}, []string{"reported TCB: expected at least fmc 0, bootloader 3, tee 0, snp 8, microcode 115, got fmc 0, bootloader 3, tee 0, snp 7"}},
		{"certificate of another TCB", func(g *guest) { g.certTCB.SnpSpl = 9 }, []string{"certificate's TCB: expected 7308"}},
		{"provisional firmware taken back", func(g *guest) {
			tcb, _ := kds.ComposeTCBParts(kds.TCBParts{BlSpl: 9, SnpSpl: 8, UcodeSpl: 115})
			g.report.CommittedTcb = uint64(tcb)
		}, []string{"committed TCB: expected at most the current"}},
		{"another chip", func(g *guest) { g.report.ChipId[0] ^= 1 }, []string{"chip id: expected 5555"}},
		{"old utility VM", func(g *guest) { g.uvm.svn = svnOf(99) }, []string{"UVM SVN: expected at least 100, got 99"}},
		{"SVN that is no number", func(g *guest) { g.uvm.svn = "high" }, uvmFails(`SVN "high" is not a number`)},
		{"short measurement", func(g *guest) { g.uvm.measurement = "11" }, uvmFails("not 96 hex digits")},
		{"feed", func(g *guest) { g.uvm.feed = "Other" }, []string{"UVM feed: expected ContainerPlat-AMD-UVM, got Other"}},
		{"no feed", func(g *guest) { g.uvm.feed = "" }, []string{"UVM feed: expected ContainerPlat-AMD-UVM, got (none)"}},
		{"foreign issuer", func(g *guest) { g.uvm.issuer = MicrosoftUVMIssuer }, uvmFails("does not lead to the issuer it names")},
		{"malformed issuer", func(g *guest) { g.uvm.issuer = "did:web:example" }, uvmFails(`issuer "did:web:example" is not`)},
		{"issuer's usage missing", func(g *guest) { g.uvm.usage = nil }, uvmFails("lacks the extended key usage 1.3.6.1.4.1.99999.1")},
		{"weaker algorithm", func(g *guest) { g.uvm.algorithm = cose.AlgorithmPS256 }, uvmFails("algorithm is not PS384")},
		{"everything", func(g *guest) {
			g.report.Policy |= 1<<19 | 1<<18
			g.report.Vmpl = 1
			g.report.HostData[0]++
			g.uvm.svn = "1"
		}, []string{"VMPL", "debugging", "migration", "host data", "UVM SVN"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := goodGuest()
			tc.change(g)
			e, want := g.evidence(t)
			res, err := Verify(e, want)
			wantOnly(t, res, err, tc.want...)
		})
	}
}

// uvmFails: without a valid endorsement nothing it says counts.
func uvmFails(text string) []string {
	return []string{text, "UVM issuer", "UVM feed", "UVM SVN", "launch measurement"}
}

func TestBadEvidence(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Evidence)
		want   []string
	}{
		{"short report", func(e *Evidence) { e.Report = e.Report[:1000] }, []string{"it has 1000 bytes, not 1184"}},
		{"version 1", func(e *Evidence) { e.Report[0] = 1 }, []string{"report version is: 1"}},
		{"version 6", func(e *Evidence) { e.Report[0] = 6 }, []string{"report version is: 6"}},
		{"reserved bits", func(e *Evidence) { e.Report[0x18a] |= 0x80 }, []string{"reserved bits are set"}},
		{"unsigned field", func(e *Evidence) { e.Report[0x10] = 1 }, []string{"signature: expected a chain to test, got report signature verification error"}},
		{"no certificates", func(e *Evidence) { e.HostCerts.Chain = nil },
			[]string{"the evidence has no certificate", "processor: expected (not stated)", "chip id: expected (not stated)", "certificate's TCB", "reported TCB"}},
		{"no signing key", func(e *Evidence) { e.HostCerts.Chain = e.HostCerts.Chain[:1] }, []string{"could not be verified by any trusted roots"}},
		{"root in place of the leaf", func(e *Evidence) { e.HostCerts.Chain = e.HostCerts.Chain[2:] },
			[]string{"signature", "processor", "chip id", "certificate's TCB", "reported TCB"}},
		{"no endorsement", func(e *Evidence) { e.UVM = nil }, uvmFails("not COSE_Sign1")},
		{"huge endorsement", func(e *Evidence) { e.UVM = make([]byte, maxUVM+1) }, uvmFails("more than the 65536 allowed")},
		{"endorsement changed", func(e *Evidence) { e.UVM[len(e.UVM)-1] ^= 1 }, uvmFails("its signature")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, want := goodGuest().evidence(t)
			tc.change(e)
			res, err := Verify(e, want)
			wantOnly(t, res, err, tc.want...)
		})
	}
}

// What is not stated is refused, whatever the evidence.
func TestZeroExpectationsDeny(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Expectations)
		want   []string
	}{
		{"roots", func(w *Expectations) { w.Anchors.Roots = nil }, []string{"no trust root is stated"}},
		{"AMD's roots for a software processor", func(w *Expectations) {
			w.Anchors.Roots = mustAMD(t).Roots
		}, []string{"could not be verified by any trusted roots"}},
		{"UVM issuer", func(w *Expectations) { w.Anchors.UVMIssuer = "" }, []string{"UVM issuer: expected (not stated)"}},
		{"UVM feed", func(w *Expectations) { w.Anchors.UVMFeed = "" }, []string{"UVM feed: expected (not stated)"}},
		{"host data", func(w *Expectations) { w.HostData = nil }, []string{"host data: expected (not stated)"}},
		{"report data", func(w *Expectations) { w.ReportData = nil }, []string{"report data: expected (not stated)"}},
		{"short report data", func(w *Expectations) { w.ReportData = w.ReportData[:32] }, []string{"report data: expected 2222"}},
		{"SMT", func(w *Expectations) { w.SMT = 0 }, []string{"SMT: expected unstated, got allowed"}},
		{"TCB floor", func(w *Expectations) { w.MinTCB = nil }, []string{"reported TCB"}},
		{"SVN floor", func(w *Expectations) { w.MinUVMSVN = 0 }, []string{"UVM SVN: expected at least 0, got 100"}},
		{"all", func(w *Expectations) { *w = Expectations{} },
			[]string{"signature", "reported TCB", "SMT", "host data", "report data", "UVM issuer", "UVM feed", "UVM SVN"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, want := goodGuest().evidence(t)
			tc.change(&want)
			res, err := Verify(e, want)
			wantOnly(t, res, err, tc.want...)
		})
	}
	if (Checks{}).Err("nothing") == nil {
		t.Error("no checks at all pass")
	}
}

func TestRevocationLists(t *testing.T) {
	now := time.Now()
	list := func(key *rsa.PrivateKey, until time.Time, serials ...*big.Int) func(*Expectations) {
		return func(w *Expectations) {
			var entries []x509.RevocationListEntry
			for _, serial := range serials {
				entries = append(entries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: now})
			}
			issuer := *w.Anchors.Roots[0]
			issuer.KeyUsage |= x509.KeyUsageCRLSign
			issuer.PublicKey = &key.PublicKey
			der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
				Number: big.NewInt(1), ThisUpdate: now.Add(-time.Hour), NextUpdate: until, RevokedCertificateEntries: entries,
			}, &issuer, key)
			if err != nil {
				t.Fatal(err)
			}
			crl, err := x509.ParseRevocationList(der)
			if err != nil {
				t.Fatal(err)
			}
			w.Anchors.CRLs = append(w.Anchors.CRLs, crl)
		}
	}
	ark := sevtest.DefaultArk()
	e, want := goodGuest().evidence(t)
	ask := e.HostCerts.Chain[1]
	for _, tc := range []struct {
		name   string
		change func(*Expectations)
		want   string
	}{
		{"empty", list(ark, now.Add(time.Hour)), ""},
		{"another serial", list(ark, now.Add(time.Hour), big.NewInt(987654)), ""},
		{"revoked", list(ark, now.Add(time.Hour), ask.SerialNumber), "SEV-Milan is revoked"},
		{"ran out", list(ark, now.Add(-time.Minute)), "a list that ran out"},
		{"forged", list(sevtest.DefaultAsvk(), now.Add(time.Hour)), "a list that no root signed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := want
			tc.change(&w)
			res, err := Verify(e, w)
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantOnly(t, res, err, tc.want)
		})
	}
	// The signing key comes from the anchors, and the list still counts.
	w := want
	w.Anchors.Intermediates = e.HostCerts.Chain[1:2]
	list(ark, now.Add(time.Hour), ask.SerialNumber)(&w)
	alone := *e
	alone.HostCerts.Chain = e.HostCerts.Chain[:1]
	res, err := Verify(&alone, w)
	wantOnly(t, res, err, "SEV-Milan is revoked")
}

// Genuine evidence is not accepted under other roots, also where it brings no
// signing key to be tried under them.
func TestGenuineEvidenceNeedsAMDsRoots(t *testing.T) {
	_, want := goodGuest().evidence(t)
	r, err := ParseReport(testdata.AttestationBytes[:ReportSize])
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(testdata.VcekBytes)
	if err != nil {
		t.Fatal(err)
	}
	certs := HostCerts{Chain: []*x509.Certificate{leaf}}
	if err := checkSignature(r, certs, mustAMD(t), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := checkSignature(r, certs, want.Anchors, time.Now()); err == nil || !strings.Contains(err.Error(), "no signing key is given under the trusted roots") {
		t.Errorf("under another root: %v", err)
	}
}

func mustAMD(t testing.TB) Anchors {
	a, err := AMD()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Every byte of real evidence that is signed or checked, one bit of it flipped,
// is refused: the report, the endorsement, the certificates of the processor and
// of its signing key, the policy, the runtime data.
func TestFlippedBitsAreRefused(t *testing.T) {
	seen := map[[32]byte]bool{} // endorsements and chains come with more than one report
	fresh := func(part []byte) bool {
		sum := sha256.Sum256(part)
		defer func() { seen[sum] = true }()
		return !seen[sum]
	}
	for name, b := range realBundles(t) {
		t.Run(name, func(t *testing.T) {
			if _, err := Verify(&b.evidence, b.want); err != nil {
				t.Fatal(err)
			}
			flipReport(t, b)
			if fresh(b.evidence.UVM) {
				flipUVM(t, b)
			}
			if fresh(b.evidence.HostCerts.Chain[0].Raw) {
				flipCertificate(t, b, 0)
				alone := b
				alone.want.Anchors.Intermediates = nil // or AMD's own copy is as good
				flipCertificate(t, alone, 1)
			}
			flipWhatItIsAbout(t, b)
		})
	}
}

// flipped calls f with each byte of data changed in turn.
func flipped(data []byte, f func(i int, changed []byte)) {
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1 << (i % 8)
		f(i, changed)
	}
}

// accepted is Verify, but asks no further of what the processor's part refuses.
func accepted(e *Evidence, want Expectations) bool {
	r, err := ParseReport(e.Report)
	if err != nil {
		return false
	}
	var res Result
	if res.checkProcessor(r, e.HostCerts, want, time.Now()); res.Checks.Err("it") != nil {
		return false
	}
	_, err = Verify(e, want)
	return err == nil
}

func flipReport(t *testing.T, b bundle) {
	flipped(b.evidence.Report, func(i int, changed []byte) {
		e := b.evidence
		e.Report = changed
		if accepted(&e, b.want) {
			t.Errorf("report byte %#x changed and accepted", i)
		}
	})
}

// flipUVM asks the endorsement's part of Verify alone: a thousand reports are
// flipped elsewhere.
func flipUVM(t *testing.T, b bundle) {
	r, err := ParseReport(b.evidence.Report)
	if err != nil {
		t.Fatal(err)
	}
	flipped(b.evidence.UVM, func(i int, changed []byte) {
		var res Result
		res.checkUVM(r, changed, b.want)
		if res.Checks.Err("it") == nil && !unsignedCOSE(t, b.evidence.UVM, changed) {
			t.Errorf("endorsement byte %#x changed and accepted", i)
		}
	})
}

func flipWhatItIsAbout(t *testing.T, b bundle) {
	refuses := func(what string, i int, want Expectations) {
		var res Result
		r, err := ParseReport(b.evidence.Report)
		if err != nil {
			t.Fatal(err)
		}
		if res.checkFields(r, want); res.Checks.Err("it") == nil {
			t.Errorf("%s byte %#x changed and accepted", what, i)
		}
	}
	flipped(b.evidence.Policy, func(i int, changed []byte) {
		want, host := b.want, (&SecurityContext{Policy: changed}).HostData()
		want.HostData = host[:]
		refuses("policy", i, want)
	})
	flipped(b.runtimeData, func(i int, changed []byte) {
		want, about := b.want, RuntimeReportData(changed)
		want.ReportData = about[:]
		refuses("runtime data", i, want)
	})
}

// unsignedCOSE reports whether two messages differ in nothing but their
// unprotected header, which is not signed and not read.
func unsignedCOSE(t *testing.T, a, b []byte) bool {
	var x, y cose.Sign1Message
	if x.UnmarshalCBOR(a) != nil || y.UnmarshalCBOR(b) != nil {
		t.Fatal("an accepted endorsement does not parse")
	}
	return bytes.Equal(x.Headers.RawProtected, y.Headers.RawProtected) &&
		bytes.Equal(x.Payload, y.Payload) && bytes.Equal(x.Signature, y.Signature)
}

// flipCertificate changes one certificate of the chain. One that no longer
// parses never gets as far as Verify: it is refused by ParseHostCerts.
func flipCertificate(t *testing.T, b bundle, at int) {
	parsed := 0
	flipped(b.evidence.HostCerts.Chain[at].Raw, func(i int, changed []byte) {
		cert, err := x509.ParseCertificate(changed)
		if err != nil {
			return
		}
		parsed++
		e := b.evidence
		e.HostCerts.Chain = slices.Clone(e.HostCerts.Chain)
		e.HostCerts.Chain[at] = cert
		if accepted(&e, b.want) {
			t.Errorf("certificate %d byte %#x changed and accepted", at, i)
		}
	})
	if parsed == 0 {
		t.Error("no changed certificate was tried")
	}
}

// The library's verify package registers a flag with the flag package's global
// set, where it would let a command line weaken a check. It cannot: nothing of
// ours that links it parses that set.
func TestNobodyParsesGlobalFlags(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSpace(string(out))
	files := 0
	grep := exec.Command("go", "list", "-deps", "-f", `{{$d := .Dir}}{{range .GoFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}`)
	grep.Args = append(grep.Args, commandsThatLink(t, root, "github.com/google/go-sev-guest/verify")...)
	grep.Dir = root
	list, err := grep.Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.FieldsSeq(string(list)) {
		if !strings.HasPrefix(path, root+string(filepath.Separator)) {
			continue
		}
		files++
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("\t\"flag\"\n")) {
			t.Errorf("%s uses package flag", strings.TrimPrefix(path, root+string(filepath.Separator)))
		}
	}
	if files == 0 {
		t.Fatal("no file was looked at")
	}
}

// commandsThatLink returns those of our commands that have the package in them.
func commandsThatLink(t *testing.T, root, pkg string) (commands []string) {
	t.Helper()
	list := exec.Command("go", "list", "-f", `{{if eq .Name "main"}}{{.ImportPath}} {{join .Deps " "}}{{end}}`, "./cmd/...")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); slices.Contains(f, pkg) {
			commands = append(commands, f[0])
		}
	}
	if len(commands) < 2 {
		t.Fatalf("of our commands only %q link %s: the test looks at too little", commands, pkg)
	}
	return commands
}

// Turin lays TCB_VERSION, chip id and certificate out anew; what is wrong there
// is found as on the other lines.
func TestBadTurin(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*guest)
		want   []string
	}{
		{"old TCB", func(g *guest) {
			g.certTCB.SnpSpl = 7
			tcb, _ := kds.ComposeTCBParts(g.certTCB)
			g.report.ReportedTcb = uint64(tcb)
		}, []string{"reported TCB: expected at least fmc 2, bootloader 3, tee 0, snp 8, microcode 115, got fmc 2, bootloader 3, tee 0, snp 7"}},
		{"certificate of another TCB", func(g *guest) { g.certTCB.SnpSpl = 9 }, []string{"certificate's TCB: expected 7300000008000302, got 7300000009000302"}},
		{"another chip", func(g *guest) { g.report.ChipId[0] ^= 1 }, []string{"chip id: expected 5555"}},
		{"debugging", func(g *guest) { g.report.Policy |= 1 << 19 }, []string{"debugging: expected false, got true"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := goodGuest()
			g.product = "Turin-B1"
			tc.change(g)
			e, want := g.evidence(t)
			res, err := Verify(e, want)
			wantOnly(t, res, err, tc.want...)
		})
	}
	g := goodGuest()
	g.product = "Turin-B1"
	e, want := g.evidence(t)
	r, err := ParseReport(e.Report)
	if err != nil || r.Line != Turin || (r.Reported != TCB{FMC: turinFMC, Bootloader: 3, SNP: 8, Microcode: 115}) {
		t.Errorf("Turin's TCB is read as %v of %q (%v)", r.Reported, r.Line, err)
	}
	path, err := r.VCEKPath(HostCerts{})
	if want := "/vcek/v1/Turin/5555555555555555?fmcSPL=2&blSPL=3&teeSPL=0&snpSPL=8&ucodeSPL=115"; err != nil || path != want {
		t.Errorf("Turin's certificate is at %s, %v, want %s", path, err, want)
	}
	e.Report[0x90] ^= 1 // measured: the signature covers it
	res, err := Verify(e, want)
	wantOnly(t, res, err, "signature: expected a chain to test, got report signature verification error", "launch measurement")
	e.Report[0x90] ^= 1
	want.Anchors.Roots = mustAMD(t).Roots
	res, err = Verify(e, want)
	wantOnly(t, res, err, "could not be verified by any trusted roots")
}

// A report of one line under the certificate of another is of no line.
func TestLinesMustAgree(t *testing.T) {
	e, want := goodGuest().evidence(t)
	e.Report[0x188], e.Report[0x189] = 0x19, 0x11
	res, err := Verify(e, want)
	wantOnly(t, res, err, "signature", "processor: expected Milan, got Genoa")
	// Where no floor is stated for a line, nothing of it is good enough.
	e, want = goodGuest().evidence(t)
	delete(want.MinTCB, Milan)
	res, err = Verify(e, want)
	wantOnly(t, res, err, "reported TCB: expected at least fmc 0, bootloader 0")
}

func TestTCBFloorIsPerComponent(t *testing.T) {
	floor := TCB{FMC: 1, Bootloader: 2, TEE: 3, SNP: 4, Microcode: 5}
	if !floor.AtLeast(floor) {
		t.Error("a floor is not at least itself")
	}
	for i, tcb := range []TCB{{0, 9, 9, 9, 9}, {9, 1, 9, 9, 9}, {9, 9, 2, 9, 9}, {9, 9, 9, 3, 9}, {9, 9, 9, 9, 4}} {
		if tcb.AtLeast(floor) {
			t.Errorf("%d: %v passes %v", i, tcb, floor)
		}
	}
}
