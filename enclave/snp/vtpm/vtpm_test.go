//go:build !production

package vtpm_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"

	"cloister/enclave/snp"
	"cloister/enclave/snp/simulated"
	"cloister/enclave/snp/vtpm"
	"cloister/internal/fault"
	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"
	"cloister/internal/swtpm"
)

// vm is a confidential VM: a real TPM around a simulated processor's report.
type vm struct {
	vtpm.Platform
	tpm  *swtpm.TPM
	host simulated.Platform
}

func (v vm) SecurityContext() (snp.SecurityContext, error) {
	s, err := v.host.SecurityContext()
	return snp.SecurityContext{HostCerts: s.HostCerts}, err
}

func (v vm) Anchors() (snp.Anchors, error) { return v.host.Anchors() }

func (v vm) Certificates(_ context.Context, _ *snp.Report, given snp.HostCerts) (snp.HostCerts, error) {
	return given, nil
}

var _ snp.Quoter = vm{}

// measured is what the VM's system measured of itself.
const measured = 11

func newVM(t testing.TB, guest platform.GuestConfig) vm {
	t.Helper()
	v := vm{host: processor(t, guest), tpm: swtpm.Start(t)}
	v.TPM = v.tpm.Socket
	v.tpm.Provision(t, v.report(t))
	v.tpm.Extend(t, measured, "the system and the runtime in it")
	return v
}

// report asks the simulated processor.
func (v vm) report(t testing.TB) func([64]byte) []byte {
	return func(about [64]byte) []byte {
		raw, err := v.host.GuestReport(t.Context(), about)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
}

// processor is one for all: its keys take seconds.
func processor(t testing.TB, guest platform.GuestConfig) simulated.Platform {
	t.Helper()
	dir, err := os.MkdirTemp("", "guest") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	guest.Policy, guest.VM = []byte("none\n"), !guest.WrongHostData
	p, err := platform.Load(wire.Keys{Dir: keysDir})
	if err != nil {
		t.Fatal(err)
	}
	g, err := p.Launch(dir, guest)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return simulated.New(dir)
}

var keysDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		panic(err)
	}
	keysDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// about is a statement with a nonce of its own.
func about(n byte) snp.Identity {
	return snp.Identity{RunID: [16]byte{n}, AuditKey: []byte("audit"), TLSKey: []byte("tls")}
}

// judge is what a relying party does: it knows the system's PCR from its build.
func (v vm) judge(t testing.TB, e *snp.Evidence, s snp.Statement) (*snp.Result, error) {
	t.Helper()
	return snp.Verify(e, v.want(t, s))
}

func (v vm) want(t testing.TB, s snp.Statement) snp.Expectations {
	t.Helper()
	anchors, err := v.Anchors()
	if err != nil {
		t.Fatal(err)
	}
	data, err := s.ReportData()
	if err != nil {
		t.Fatal(err)
	}
	return snp.Expectations{
		Anchors: anchors, HostData: make([]byte, 32), ReportData: data[:], SMT: snp.SMTAllowed, MinTCB: snp.BaseFloors(),
		VM: &snp.VMExpectations{Measurements: [][48]byte{platform.Measurement()}, PCRs: expectedPCRs(t)},
	}
}

// expectedPCRs is computed, not read: zeros extended once.
func expectedPCRs(t testing.TB) snp.PCRs {
	t.Helper()
	p := snp.PCRs{}
	what := crypto.SHA256.New()
	what.Write([]byte("the system and the runtime in it"))
	pcr := crypto.SHA256.New()
	pcr.Write(make([]byte, 32))
	pcr.Write(what.Sum(nil))
	if err := p.Set("11", hex.EncodeToString(pcr.Sum(nil))); err != nil {
		t.Fatal(err)
	}
	return p
}

func (v vm) collect(t testing.TB, s snp.Statement) *snp.Evidence {
	t.Helper()
	e, err := snp.Collect(t.Context(), v, s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestGoodVM(t *testing.T) {
	v := newVM(t, platform.GuestConfig{})
	e := v.collect(t, about(1))
	res, err := v.judge(t, e, about(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"signature", "host data", "report data", "launch measurement", "secure boot", "quote", "quoted data", "PCR 11"} {
		if !slices.ContainsFunc(res.Checks, func(c snp.Check) bool { return c.Name == name && c.OK }) {
			t.Errorf("%q was not checked: %v", name, res.Checks)
		}
	}
	text, err := e.Quote.JSON()
	if err != nil {
		t.Fatal(err)
	}
	again, err := snp.ParseQuote(text)
	if err != nil {
		t.Fatal(err)
	}
	again.Claims, e.Quote = e.Quote.Claims, again
	if _, err := v.judge(t, e, about(1)); err != nil {
		t.Errorf("as read from a file: %v", err)
	}
}

// refused asserts a refusal that names exactly these checks.
func refused(t *testing.T, res *snp.Result, err error, texts ...string) {
	t.Helper()
	if fault.KindOf(err) != fault.Refused {
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
		if !strings.Contains(failed[i], text) || !strings.Contains(err.Error(), text) {
			t.Errorf("check %q, want %q", failed[i], text)
		}
	}
}

func TestBadVMs(t *testing.T) {
	for _, tc := range []struct {
		name  string
		guest platform.GuestConfig
		text  []string
	}{
		{"debug", platform.GuestConfig{Debug: true}, []string{"debugging: expected false, got true"}},
		{"migration", platform.GuestConfig{Migration: true}, []string{"migration: expected false, got true"}},
		// The VM's own system is at VMPL 2: a report it asked for is about what it likes.
		{"a report of the VM's own", platform.GuestConfig{VMPL: 2}, []string{"VMPL: expected 0, got 2"}},
		{"paravisor", platform.GuestConfig{WrongMeasurement: true}, []string{"launch measurement: expected"}},
		{"host data", platform.GuestConfig{WrongHostData: true}, []string{"host data: expected 0000"}},
		{"revoked", platform.GuestConfig{Revoked: true}, []string{"revocation: expected no certificate on a current list"}},
		{"certificates of old firmware", platform.GuestConfig{StaleCertificates: true}, []string{"certificate's TCB: expected"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := newVM(t, tc.guest)
			res, err := v.judge(t, v.collect(t, about(1)), about(1))
			refused(t, res, err, tc.text...)
		})
	}
}

func TestTamperedEvidence(t *testing.T) {
	v, other := newVM(t, platform.GuestConfig{}), newVM(t, platform.GuestConfig{})
	fresh := func() *snp.Evidence { return v.collect(t, about(1)) }
	for _, tc := range []struct {
		name   string
		change func(e *snp.Evidence)
		text   []string
	}{
		{"quote by another AK", func(e *snp.Evidence) {
			q := other.collect(t, about(1)).Quote
			e.Quote.Message, e.Quote.Signature, e.Quote.PCRs = q.Message, q.Signature, q.PCRs
		}, []string{"quote: expected signed by the HCL's key, over these PCRs, got the signature is not by the key in the HCL report", "quoted data", "PCR 11"}},
		{"stale nonce", func(e *snp.Evidence) { *e = *v.collect(t, about(2)) }, []string{"quoted data: expected "}},
		{"report of another VM", func(e *snp.Evidence) { e.Report = other.collect(t, about(1)).Report }, []string{"report data: expected "}},
		{"claims of another VM", func(e *snp.Evidence) { e.Quote.Claims = other.collect(t, about(1)).Quote.Claims },
			[]string{"report data: expected ", "quote: expected", "quoted data", "PCR 11"}},
		{"whole other VM, its own quote", func(e *snp.Evidence) { other.tpm.Extend(t, measured, "more"); *e = *other.collect(t, about(1)) },
			[]string{"PCR 11: expected "}},
		{"a PCR's value", func(e *snp.Evidence) { e.Quote.PCRs[measured] = [32]byte{1} },
			[]string{"got the PCR values are not those that were quoted", "quoted data", "PCR 11"}},
		{"a PCR left out", func(e *snp.Evidence) { delete(e.Quote.PCRs, measured) },
			[]string{"got the quote is over the PCRs", "quoted data", "PCR 11: expected"}},
		{"no quote", func(e *snp.Evidence) { e.Quote = nil },
			[]string{"report data", "kind of guest: expected a confidential VM, with a quote, got a container, with no quote"}},
		{"report bit", func(e *snp.Evidence) { e.Report[0x140] ^= 1 }, []string{"signature"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := fresh()
			tc.change(e)
			res, err := v.judge(t, e, about(1))
			refused(t, res, err, tc.text...)
		})
	}
}

func TestEveryBitOfTheQuote(t *testing.T) {
	v := newVM(t, platform.GuestConfig{})
	e := v.collect(t, about(1))
	want := v.want(t, about(1))
	for name, part := range map[string][]byte{"message": e.Quote.Message, "signature": e.Quote.Signature, "claims": e.Quote.Claims} {
		for i := range part {
			part[i] ^= 1
			if _, err := snp.Verify(e, want); fault.KindOf(err) != fault.Refused {
				t.Errorf("%s byte %d changed: %v", name, i, err)
			}
			part[i] ^= 1
		}
	}
	if _, err := snp.Verify(e, want); err != nil {
		t.Fatal(err)
	}
}

func TestExpectationsAreRequired(t *testing.T) {
	v := newVM(t, platform.GuestConfig{})
	e := v.collect(t, about(1))
	for _, tc := range []struct {
		name   string
		change func(*snp.Expectations)
		text   []string
	}{
		{"PCRs", func(w *snp.Expectations) { w.VM.PCRs = nil }, []string{"PCRs: expected (not stated), got 16 quoted"}},
		{"measurements", func(w *snp.Expectations) { w.VM.Measurements = nil }, []string{"launch measurement: expected (not stated)"}},
		{"statement", func(w *snp.Expectations) { w.ReportData = nil }, []string{"quoted data: expected (not stated)"}},
		// A specification of a container demands host data: no VM ever has it.
		{"a container's host data", func(w *snp.Expectations) {
			host := (&snp.SecurityContext{Policy: []byte("package policy\n")}).HostData()
			w.HostData, w.VM, w.MinUVMSVN = host[:], nil, 100
		}, []string{"host data: expected", "report data", "kind of guest: expected a container, with no quote, got a confidential VM"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := v.want(t, about(1))
			tc.change(&want)
			res, err := snp.Verify(e, want)
			refused(t, res, err, tc.text...)
		})
	}
}

func TestWhatIsNotThere(t *testing.T) {
	v := newVM(t, platform.GuestConfig{})
	collect := func() error { _, err := snp.Collect(t.Context(), v, about(1)); return err }
	v.tpm.StoreHCL(t, []byte("HCLB"))
	if err := collect(); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "the HCL report is malformed: it does not begin with HCLA") {
		t.Errorf("not an HCL report: %v", err)
	}
	v.tpm.RemoveHCL(t)
	if err := collect(); fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "reading the HCL report from NV index 0x1400001") {
		t.Errorf("no index: %v", err)
	}
	v.TPM = t.TempDir() + "/tpm"
	if err := collect(); fault.KindOf(err) != fault.Unavailable || !strings.Contains(strings.Join(fault.Hints(err), " "), "run in a confidential VM") {
		t.Errorf("no TPM: %v", err)
	}
}

func TestKey(t *testing.T) {
	v := newVM(t, platform.GuestConfig{})
	k, err := v.NewKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	second, err := v.NewKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if k.Public().(*rsa.PublicKey).Equal(second.Public()) {
		t.Error("two starts have the same key")
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	public := k.Public().(*rsa.PublicKey)
	sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public, []byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	open := func() (string, error) {
		out, err := k.Decrypt(nil, sealed, &rsa.OAEPOptions{Hash: crypto.SHA1})
		return string(out), err
	}
	if got, err := open(); err != nil || got != "secret" {
		t.Fatalf("got %q, %v", got, err)
	}
	v.tpm.Extend(t, 7, "another secure boot policy")
	if got, err := open(); err == nil || !strings.Contains(err.Error(), "decrypting in the TPM") {
		t.Errorf("in another system: %q, %v", got, err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("closed: %v", err)
	}
}
