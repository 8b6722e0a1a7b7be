package main

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloister/enclave/snp"
	"cloister/enclave/snp/simulated"
	"cloister/enclave/snp/vtpm"
	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"
	"cloister/internal/swtpm"

	sample "github.com/google/go-sev-guest/verify/testdata"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestEvidenceScripts runs the scripts of testdata/evidence. They find evidence
// in $SAMPLE (go-sev-guest's own, genuine), $SIMULATED and $VM (guests made here) and,
// where the real bundles lie beside the project, $ENCRYPTION, $MAA, $SVN22.
func TestEvidenceScripts(t *testing.T) {
	const dir = "testdata/evidence"
	scripts, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts in %s (%v): the test looked at nothing", dir, err)
	}
	folders := map[string]string{"SAMPLE": sampleEvidence(t), "SIMULATED": simulatedEvidence(t), "VM": vmEvidence(t)}
	shared, there := sharedEvidence(t)
	if there {
		folders["ENCRYPTION"], folders["MAA"], folders["SVN22"] = encryptionBundle(t, shared), maaBundle(t, shared), svn22Bundle(t, shared)
	}
	testscript.Run(t, testscript.Params{
		Dir: dir, RequireExplicitExec: true, RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Setup: func(env *testscript.Env) error {
			for name, folder := range folders {
				env.Setenv(name, folder)
			}
			return setUp(t)(env)
		},
		Condition: func(string) (bool, error) { return there, nil }, // [shared] is the only one
	})
}

// evidenceDir makes a folder of files.
func evidenceDir(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func sampleEvidence(t *testing.T) string {
	return evidenceDir(t, map[string][]byte{
		"report":     sample.AttestationBytes[:snp.ReportSize],
		"host-certs": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sample.VcekBytes}),
	})
}

// simulatedEvidence is whole: of a good guest, about runtime data.
func simulatedEvidence(t *testing.T) string {
	dir := simulatedGuest(t, platform.GuestConfig{Policy: []byte("package policy\n")})
	about := snp.KeyRelease{RuntimeData: []byte(`{"keys":[]}`)}
	e, err := snp.Collect(t.Context(), simulated.New(dir), about)
	if err != nil {
		t.Fatal(err)
	}
	writeEvidence(t, dir, map[string][]byte{"report": e.Report, "uvm": e.UVM, "policy": e.Policy, "host-certs": e.HostCerts.PEM(), "runtime-data": about.RuntimeData})
	return dir
}

// vmEvidence is of a good confidential VM: a software TPM around the simulated
// processor's report.
func vmEvidence(t *testing.T) string {
	dir := simulatedGuest(t, platform.GuestConfig{Policy: []byte("none\n"), VM: true})
	host, tpm := simulated.New(dir), swtpm.Start(t)
	hcl := tpm.Provision(t, func(about [64]byte) []byte {
		raw, err := host.GuestReport(t.Context(), about)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	})
	about := snp.KeyRelease{RuntimeData: []byte(`{"keys":[]}`)}
	data, err := about.ReportData()
	if err != nil {
		t.Fatal(err)
	}
	_, q, err := vtpm.Platform{TPM: tpm.Socket}.Quote(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	quote, err := q.JSON()
	if err != nil {
		t.Fatal(err)
	}
	secctx, err := host.SecurityContext()
	if err != nil {
		t.Fatal(err)
	}
	machine := fmt.Sprintf(`{"measurements":["%x"],"pcrs":{"11":"%s"}}`, platform.Measurement(), strings.Repeat("00", 32))
	writeEvidence(t, dir, map[string][]byte{"hcl": hcl, "quote": quote, "host-certs": secctx.HostCerts.PEM(), "runtime-data": about.RuntimeData,
		"machine-policy": []byte(machine), "other-system": []byte(strings.Replace(machine, `"00`, `"01`, 1)), "other-data": []byte(`{"keys":[1]}`)})
	return dir
}

func writeEvidence(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func simulatedGuest(t *testing.T, config platform.GuestConfig) string {
	dir, err := os.MkdirTemp("", "guest") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p, err := platform.Load(wire.Keys{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	guest, err := p.Launch(dir, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { guest.Close() })
	return dir
}

// sharedEvidence finds the public bundles beside the project.
func sharedEvidence(t *testing.T) (dir string, there bool) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(filepath.Dir(root), "shared", "evidence")
	_, err = os.Stat(dir)
	return dir, err == nil
}

func evidenceBytes(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func evidenceBase64(t *testing.T, text string) []byte {
	t.Helper()
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(strings.TrimSpace(text), "="))
	raw, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func evidenceJSON(t *testing.T, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

// agreedPolicy is the policy of both insecure-virtual samples.
func agreedPolicy(t *testing.T, shared string) []byte {
	t.Helper()
	for line := range strings.Lines(string(evidenceBytes(t, shared, "caci-milan-encryption", "values.txt"))) {
		if policy, ok := strings.CutPrefix(line, "ccepolicy: "); ok {
			return evidenceBase64(t, policy)
		}
	}
	t.Fatal("values.txt has no policy")
	return nil
}

func encryptionBundle(t *testing.T, shared string) string {
	var file struct {
		Report struct {
			SNP struct{ Attestation, PlatformCertificates, UVMEndorsements string } `json:"snpCACI"`
		}
		PublicKey string
	}
	evidenceJSON(t, evidenceBytes(t, shared, "caci-milan-encryption", "attestation.json"), &file)
	snp := file.Report.SNP
	return evidenceDir(t, map[string][]byte{
		"report": evidenceBase64(t, snp.Attestation), "host-certs": []byte(snp.PlatformCertificates), "uvm": evidenceBase64(t, snp.UVMEndorsements),
		"policy": agreedPolicy(t, shared), "runtime-data": []byte(file.PublicKey),
	})
}

func maaBundle(t *testing.T, shared string) string {
	var request struct{ Report string }
	var report struct{ SnpReport, VcekCertChain, Endorsements string }
	var endorsements struct{ Uvm []string }
	evidenceJSON(t, evidenceBytes(t, shared, "caci-milan-encryption", "maa-request.json"), &request)
	evidenceJSON(t, evidenceBase64(t, request.Report), &report)
	evidenceJSON(t, evidenceBase64(t, report.Endorsements), &endorsements)
	return evidenceDir(t, map[string][]byte{
		"report": evidenceBase64(t, report.SnpReport), "host-certs": evidenceBase64(t, report.VcekCertChain), "uvm": evidenceBase64(t, endorsements.Uvm[0]),
		"policy": agreedPolicy(t, shared), "runtime-data": evidenceBytes(t, shared, "caci-milan-encryption", "public-key-jwks"),
	})
}

// svn22Bundle has THIM's JSON; what its report is about is not recorded.
func svn22Bundle(t *testing.T, shared string) string {
	folder := filepath.Join(shared, "caci-milan-svn22")
	return evidenceDir(t, map[string][]byte{
		"report": evidenceBytes(t, folder, "snp_report.bin"), "host-certs": evidenceBytes(t, folder, "uvm_host_amd_certificate.json"),
		"uvm": evidenceBytes(t, folder, "body.uvm_reference_info.bin"), "policy": evidenceBase64(t, string(evidenceBytes(t, folder, "uvm_security_policy.base64"))),
	})
}
