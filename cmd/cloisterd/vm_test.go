package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"cloister/enclave/snp/simulated"
	simulator "cloister/internal/localcloud/platform"
	"cloister/internal/swtpm"
)

// The runtime's doctor in a confidential VM: a real TPM around the simulated
// processor, as far as the attestation service's token; and what it says where
// the machine is not the one agreed on.
func TestDoctorInAConfidentialVM(t *testing.T) {
	room := newRoom(t, os.Getuid())
	must(t, os.WriteFile(room.Path("none.rego"), []byte("none\n"), 0o644))
	_, err := room.Cloister("local", "guest", "--vm", "--dir", room.Path("cloud"), "--policy", room.Path("none.rego"), room.Path("vm"))
	must(t, err)
	_, err = room.Runtime("vm") // writes the specification for the doctor
	must(t, err)
	host, tpm := simulated.New(room.Path("vm")), swtpm.Start(t)
	tpm.Provision(t, func(about [64]byte) []byte {
		raw, err := host.GuestReport(t.Context(), about)
		must(t, err)
		return raw
	})
	must(t, os.Symlink(tpm.Socket, room.Path("vm", "tpm.sock")))

	doctor := func(pcr string) string {
		policy := fmt.Sprintf(`{"measurements":["%x"],"pcrs":{"11":"%s"}}`, simulator.Measurement(), strings.Repeat(pcr, 32))
		must(t, os.WriteFile(room.Path("machine.json"), []byte(policy), 0o644))
		out, _ := room.Command("cloisterd", "doctor", "--specification", room.Path("specification.json"), "--ledger", room.Ledger,
			"--platform", "simulated-vtpm:"+room.Path("vm"), "--machine-policy", room.Path("machine.json"), "--allow-swap").CombinedOutput()
		return string(out)
	}
	if out := doctor("00"); !strings.Contains(out, "ok   attestation by ") || !strings.Contains(out, "simulated-sev-snp-vtpm") || !strings.Contains(out, "a token for a report of version 3") {
		t.Errorf("a sound machine:\n%s", out)
	}
	if out := doctor("01"); !strings.Contains(out, "FAIL attestation by ") || !strings.Contains(out, "PCR 11: expected 0101") {
		t.Errorf("another system:\n%s", out)
	}
}

func TestConfidentialVMNeedsAMachinePolicy(t *testing.T) {
	if _, err := choosePlatform("vtpm", ""); err == nil || !strings.Contains(err.Error(), "what it must be has to be said") {
		t.Errorf("none: %v", err)
	}
	file := t.TempDir() + "/policy"
	must(t, os.WriteFile(file, []byte(`{"measurements":[],"pcrs":{}}`), 0o600))
	if _, err := choosePlatform("vtpm", file); err == nil || !strings.Contains(err.Error(), "it names 0 measurements and 0 PCRs") {
		t.Errorf("empty: %v", err)
	}
}
