package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cloister/internal/cli"
)

// TestProductionHasNoSimulatedPlatform: the program in the runtime image contains
// neither the code of the simulated platform nor the names of its files, does not
// offer it, and refuses it by name. The development build, looked at in the same
// way, has all of that.
func TestProductionHasNoSimulatedPlatform(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	makeImages(t, dir)
	production := filepath.Join(dir, "root", "cloisterd")
	has := func(binary string) map[string]bool {
		code, err := os.ReadFile(binary)
		must(t, err)
		found := map[string]bool{}
		for _, s := range []string{"cloister/enclave/snp/simulated", "sev-guest.sock", "amd-root.pem", "uvm-issuer", "simulated-sev-snp", "asking the simulated processor"} {
			found[s] = bytes.Contains(code, []byte(s))
		}
		// The names of the functions are in the binary, so what is looked for would be.
		found["main.choosePlatform"] = !bytes.Contains(code, []byte("main.choosePlatform"))
		return found
	}
	for s, in := range has(production) {
		if in {
			t.Errorf("the production build: %q", s)
		}
	}
	for s, in := range has(filepath.Join(bin, "cloisterd")) {
		if in == (s == "main.choosePlatform") {
			t.Errorf("the development build: %q is %t, so looking for it proves nothing", s, in)
		}
	}
	help, err := exec.Command(production, "run", "--help").CombinedOutput()
	if err != nil || bytes.Contains(help, []byte("simulated")) {
		t.Errorf("%v: %s", err, help)
	}
	run := exec.Command(production, "run", "--allow-swap", "--platform", "simulated:"+t.TempDir(), "--ledger", t.TempDir(), "--specification-digest", "sha256:00", "--ledger-key", "k")
	out, err := run.CombinedOutput()
	if run.ProcessState.ExitCode() != cli.ExitRefused || !strings.Contains(string(out), "a production build of cloisterd has no simulated platform") {
		t.Errorf("%v: %s", err, out)
	}
}

// makeImages is `make image` into a directory.
func makeImages(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.Command("make", "--no-print-directory", "-C", "../..", "image", "IMAGE="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make image: %v\n%s", err, out)
	}
}
