package snp

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-sev-guest/verify/testdata"
)

// bundle is a piece of real evidence with what it must be judged by.
type bundle struct {
	evidence    Evidence
	want        Expectations
	runtimeData []byte // where it is recorded
}

// realBundles are all there are, each with expectations that it meets.
func realBundles(t *testing.T) map[string]bundle {
	old := svn22Bundle(t)
	old.want.MinUVMSVN = 22
	return map[string]bundle{
		"encryption": caciBundle(t, "caci-milan-encryption"), "signing": caciBundle(t, "caci-milan-signing"),
		"maa": maaBundle(t), "svn22": old,
	}
}

// evidenceFile reads a file of the public evidence that lies beside the
// project, and skips where it does not.
func evidenceFile(t testing.TB, name string) []byte {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
	folder := filepath.Join(filepath.Dir(dir), "shared", "evidence")
	if _, err := os.Stat(folder); os.IsNotExist(err) {
		t.Skip("the real evidence in ../shared/evidence is not on this machine")
	}
	data, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// realWorld are the expectations that all the real bundles share.
func realWorld(t testing.TB) Expectations {
	anchors, err := AMD()
	if err != nil {
		t.Fatal(err)
	}
	return Expectations{
		Anchors: anchors, SMT: SMTAllowed, MinUVMSVN: 100,
		MinTCB: BaseFloors(),
	}
}

func decode64(t testing.TB, text string) []byte {
	t.Helper()
	enc := base64.StdEncoding
	if strings.ContainsAny(text, "-_") {
		enc = base64.URLEncoding
	}
	raw, err := enc.WithPadding(base64.NoPadding).DecodeString(strings.TrimRight(strings.TrimSpace(text), "="))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func hostCerts(t testing.TB, data []byte) HostCerts {
	t.Helper()
	certs, err := ParseHostCerts(data)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

// caciBundle reads the form of the insecure-virtual samples: a report over a
// public key. Their policy is in values.txt.
func caciBundle(t testing.TB, folder string) bundle {
	var file struct {
		Report struct {
			SNP struct{ Attestation, PlatformCertificates, UVMEndorsements string } `json:"snpCACI"`
		}
		PublicKey string
	}
	if err := json.Unmarshal(evidenceFile(t, folder+"/attestation.json"), &file); err != nil {
		t.Fatal(err)
	}
	b := bundle{want: realWorld(t)}
	b.evidence.Report = decode64(t, file.Report.SNP.Attestation)
	b.evidence.UVM = decode64(t, file.Report.SNP.UVMEndorsements)
	b.evidence.HostCerts = hostCerts(t, []byte(file.Report.SNP.PlatformCertificates))
	b.evidence.Policy = valuesPolicy(t)
	b.runtimeData = []byte(file.PublicKey) // those samples hash the key's PEM text
	about := RuntimeReportData(b.runtimeData)
	b.want.HostData, b.want.ReportData = hostDataOf(b), about[:]
	return b
}

func valuesPolicy(t testing.TB) []byte {
	for line := range strings.Lines(string(evidenceFile(t, "caci-milan-encryption/values.txt"))) {
		if policy, ok := strings.CutPrefix(line, "ccepolicy: "); ok {
			return decode64(t, policy)
		}
	}
	t.Fatal("values.txt has no policy")
	return nil
}

func hostDataOf(b bundle) []byte {
	sum := b.evidence.HostData()
	return sum[:]
}

// maaBundle is the report inside the real attestation request.
func maaBundle(t testing.TB) bundle {
	var request struct{ Report string }
	if err := json.Unmarshal(evidenceFile(t, "caci-milan-encryption/maa-request.json"), &request); err != nil {
		t.Fatal(err)
	}
	var report struct{ SnpReport, VcekCertChain, Endorsements string }
	if err := json.Unmarshal(decode64(t, request.Report), &report); err != nil {
		t.Fatal(err)
	}
	var endorsements struct{ Uvm []string }
	if err := json.Unmarshal(decode64(t, report.Endorsements), &endorsements); err != nil {
		t.Fatal(err)
	}
	b := bundle{want: realWorld(t)}
	b.evidence.Report = decode64(t, report.SnpReport)
	b.evidence.HostCerts = hostCerts(t, decode64(t, report.VcekCertChain))
	b.evidence.UVM = decode64(t, endorsements.Uvm[0])
	b.evidence.Policy = valuesPolicy(t)
	b.runtimeData = evidenceFile(t, "caci-milan-encryption/public-key-jwks")
	reportData, err := KeyRelease{RuntimeData: b.runtimeData}.ReportData()
	if err != nil {
		t.Fatal(err)
	}
	b.want.HostData, b.want.ReportData = hostDataOf(b), reportData[:]
	return b
}

// svn22Bundle is genuine but its utility VM is from before any sensible floor.
func svn22Bundle(t testing.TB) bundle {
	b := bundle{want: realWorld(t)}
	b.evidence.Report = evidenceFile(t, "caci-milan-svn22/snp_report.bin")
	b.evidence.HostCerts = hostCerts(t, evidenceFile(t, "caci-milan-svn22/uvm_host_amd_certificate.json"))
	b.evidence.UVM = evidenceFile(t, "caci-milan-svn22/body.uvm_reference_info.bin")
	b.evidence.Policy = decode64(t, string(evidenceFile(t, "caci-milan-svn22/uvm_security_policy.base64")))
	b.want.HostData = hostDataOf(b)
	report, err := ParseReport(b.evidence.Report)
	if err != nil {
		t.Fatal(err)
	}
	b.want.ReportData = report.ReportData[:] // what it was over is not recorded
	return b
}

func TestRealBundlesVerify(t *testing.T) {
	for name, read := range map[string]func(testing.TB) bundle{
		"encryption": func(t testing.TB) bundle { return caciBundle(t, "caci-milan-encryption") },
		"signing":    func(t testing.TB) bundle { return caciBundle(t, "caci-milan-signing") },
		"maa":        maaBundle,
	} {
		t.Run(name, func(t *testing.T) {
			b := read(t)
			res, err := Verify(&b.evidence, b.want)
			if err != nil {
				t.Fatal(err)
			}
			if res.Platform != "AMD" || res.UVMSVN < 100 || len(res.Checks) != len(checkNames) {
				t.Errorf("platform %q, SVN %d, %d checks", res.Platform, res.UVMSVN, len(res.Checks))
			}
			for i, check := range res.Checks {
				if check.Name != checkNames[i] {
					t.Errorf("check %d is %q, want %q", i, check.Name, checkNames[i])
				}
			}
		})
	}
}

// checkNames is the fixed order.
var checkNames = []string{
	"report format", "signature", "revocation", "processor", "chip id", "certificate's TCB", "committed TCB", "reported TCB",
	"VMPL", "debugging", "migration", "SMT", "host data", "report data",
	"UVM endorsement", "UVM issuer", "UVM feed", "UVM SVN", "launch measurement",
}

func TestOldUtilityVMIsRefusedByTheFloorAlone(t *testing.T) {
	b := svn22Bundle(t)
	res, err := Verify(&b.evidence, b.want)
	wantOnly(t, res, err, "UVM SVN: expected at least 100, got 22")
	b.want.MinUVMSVN = 22
	if _, err := Verify(&b.evidence, b.want); err != nil {
		t.Error(err)
	}
}

func TestSecurityContextDirectory(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{policyFile, hostCertsFile, uvmFile} {
		if err := os.WriteFile(filepath.Join(dir, name), evidenceFile(t, "security-context/"+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sc, err := ReadSecurityContext(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(sc.Policy, []byte("package policy")) || len(sc.HostCerts.Chain) != 3 || sc.HostCerts.TCBM == "" {
		t.Errorf("policy %.20q, %d certificates, tcbm %q", sc.Policy, len(sc.HostCerts.Chain), sc.HostCerts.TCBM)
	}
	uvm, err := verifyUVM(sc.UVM, nil)
	if err != nil {
		t.Fatal(err)
	}
	flipped(sc.UVM, func(i int, changed []byte) {
		if got, err := verifyUVM(changed, nil); err == nil && *got == *uvm && !unsignedCOSE(t, sc.UVM, changed) {
			t.Errorf("endorsement byte %#x changed and accepted", i)
		}
	})
	if uvm.svn != 100 || uvm.feed != UVMFeed || uvm.issuer != MicrosoftUVMIssuer {
		t.Errorf("SVN %d, feed %q, issuer %q", uvm.svn, uvm.feed, uvm.issuer)
	}
}

// The library's own sample is a real Milan report of version 2 whose VCEK comes
// without AMD's intermediate: every check on the processor holds.
func TestLibrarySample(t *testing.T) {
	want := realWorld(t)
	want.MinTCB = Floors{Milan: {Bootloader: 2, SNP: 5, Microcode: 68}}
	pemVCEK := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: testdata.VcekBytes})
	e := &Evidence{Report: testdata.AttestationBytes[:ReportSize]}
	e.HostCerts = hostCerts(t, pemVCEK)
	res, err := Verify(e, want)
	if err == nil {
		t.Fatal("accepted without an endorsement of its utility VM")
	}
	for _, check := range res.Checks[:8] {
		if !check.OK {
			t.Errorf("%+v", check)
		}
	}
	raw := bytes.Clone(e.Report)
	raw[0x90] ^= 1
	res, _ = Verify(&Evidence{Report: raw, SecurityContext: e.SecurityContext}, want)
	if res.Checks[1].OK {
		t.Error("the signature of a changed report is accepted")
	}
}
