package main

import (
	"flag"
	"os"
	"os/exec"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write dependencies.txt anew")

// TestDependencies holds the trusted computing base to a committed list: all
// packages outside the standard library that the production runtime links. A
// difference is to be reviewed like code; then run the test with -update.
func TestDependencies(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "-tags", "production,urfave_cli_no_docs", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
	list.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(out))
	for _, p := range got {
		for _, never := range []string{"cloister/prep", "cloister/internal/localcloud", "cloister/enclave/snp/simulated", "cloister/policy/spec/yaml"} {
			if strings.HasPrefix(p, never) {
				t.Errorf("the production runtime links %s", p)
			}
		}
	}
	const file = "dependencies.txt"
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	had := map[string]bool{}
	for p := range strings.FieldsSeq(string(committed)) {
		had[p] = true
	}
	for _, p := range got {
		if !had[p] {
			t.Errorf("new in the trusted computing base: %s; review it, then go test -run TestDependencies -update ./cmd/cloisterd", p)
		}
		delete(had, p)
	}
	for p := range had {
		t.Errorf("no longer linked: %s; go test -run TestDependencies -update ./cmd/cloisterd", p)
	}
}
