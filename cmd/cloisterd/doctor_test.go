package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloister/internal/cli"
)

// Without a specification there is nothing to ask the others about. That the
// doctor finds a sound room sound is the demo's to show.
func TestDoctorWithoutASpecification(t *testing.T) {
	t.Setenv("CLOISTER_SPECIFICATION", "")
	broken := filepath.Join(t.TempDir(), "spec.json")
	if err := os.WriteFile(broken, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		file string
		code int
		want string
	}{
		"none":   {filepath.Join(t.TempDir(), "nowhere"), cli.ExitNotFound, "     change: give the canonical form"},
		"broken": {broken, cli.ExitRefused, "FAIL the specification: "},
	} {
		var out, errs bytes.Buffer
		a := app()
		a.Writer, a.ErrWriter = &out, &errs
		code := cli.Main(a, []string{"cloisterd", "doctor", "--ledger", t.TempDir(), "--specification", tc.file})
		if code != tc.code || !strings.Contains(out.String(), tc.want) || strings.Count(out.String(), "FAIL") != 1 || strings.Contains(out.String(), "ok ") {
			t.Errorf("%s: exit %d\n%s%s", name, code, &out, &errs)
		}
	}
}
