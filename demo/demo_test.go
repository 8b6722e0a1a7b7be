package main

import (
	"os/exec"
	"testing"
)

// TestDemo runs the whole demo with binaries built for it: the story in the
// guide and the README must not come to differ from what the programs do.
func TestDemo(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+"/", "./cmd/cloister", "./cmd/cloisterd", "./cmd/cloister-ledger")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	if err := guided(t.Context(), bin); err != nil {
		t.Fatal(err)
	}
	if err := demo(t.Context(), bin, false); err != nil {
		t.Fatal(err)
	}
}
