package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// ofTheSimulated is what a program that has the simulated platform in it cannot
// be without: its package's name in the symbol table, its socket, its name.
var ofTheSimulated = []string{"cloister/enclave/snp/simulated", "sev-guest.sock", "simulated-sev-snp"}

// TestProductionHasNoSimulatedPlatform searches the program that the runtime
// image has, and the development one to see that the search finds something.
func TestProductionHasNoSimulatedPlatform(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	makeImages(t, dir)
	production, err := os.ReadFile(filepath.Join(dir, "root", "cloisterd"))
	must(t, err)
	development, err := os.ReadFile(filepath.Join(bin, "cloisterd"))
	must(t, err)
	for _, word := range ofTheSimulated {
		if bytes.Contains(production, []byte(word)) {
			t.Errorf("the production runtime has %q in it", word)
		}
		if !bytes.Contains(development, []byte(word)) {
			t.Errorf("the development runtime has no %q in it: the search finds nothing", word)
		}
	}
	refused := exec.Command(filepath.Join(dir, "root", "cloisterd"), "run", "--specification-digest", "x", "--ledger-key", "x", "--ledger", "/absent", "--platform", "simulated:/absent", "--allow-swap")
	if out, err := refused.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("a production build of cloisterd has no simulated platform")) {
		t.Errorf("--platform simulated: %v, %s", err, out)
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
