package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cloister/docs"
	"cloister/docs/walk"
)

// build makes the binaries that the guide names.
func build(t *testing.T) (bin string) {
	t.Helper()
	bin = t.TempDir()
	cmd := exec.Command("go", "build", "-o", bin+"/", "./cmd/cloister", "./cmd/cloisterd", "./cmd/cloister-ledger",
		"filippo.io/age/cmd/age-keygen")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return bin
}

// reachable is a folder that the application, another user, can pass through.
func reachable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cloister-guide-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// quickstart makes the guide's folder, and returns what it printed. What blocks
// leave running is ended with the test.
func quickstart(t *testing.T, bin string) (dir, printed string) {
	t.Helper()
	dir = filepath.Join(reachable(t), "study")
	out, err := exec.Command(filepath.Join(bin, "cloister"), "quickstart", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("quickstart: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if err := walk.Close(dir); err != nil {
			t.Error(err)
		}
	})
	return dir, string(out)
}

// walked walks the steps, and returns of how many it was said what they print.
func walked(t *testing.T, bin, dir string, steps []docs.Step, err error) (said int) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	err = walk.Walk(t.Context(), bin, dir, steps, func(s docs.Step, out string, _ time.Duration) {
		if s.Output != "" {
			said++
		}
		t.Logf("%s: %s\n%s%s", s.Section, s.Party, s.Text, out)
	})
	if err != nil {
		t.Fatal(err)
	}
	return said
}

// TestGuide carries out every command of the guide, in the folder that quickstart
// makes, and holds what each prints against the page.
func TestGuide(t *testing.T) {
	bin := build(t)
	dir, printed := quickstart(t, bin)
	steps, err := docs.Steps()
	if said := walked(t, bin, dir, steps, err); said < 10 {
		t.Errorf("the guide says of %d blocks what they print: the walk has shown little", said)
	}
	for _, s := range steps {
		if s.File == "" && !strings.Contains(printed, s.Text) {
			t.Errorf("quickstart does not print\n%s", s.Text)
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, "lab", "result", "report", "wards.txt"))
	if want := "north 50%\nsouth 33%\n"; string(got) != want {
		t.Errorf("the lab reads %q, want %q: %v", got, want, err)
	}
	again, err := exec.Command(filepath.Join(bin, "cloister"), "quickstart", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(again), "is already there") {
		t.Errorf("quickstart over a folder that is there: %v\n%s", err, again)
	}
}

// TestOperations carries out every command of docs/operations.md, where the guide
// has run the application.
func TestOperations(t *testing.T) {
	bin := build(t)
	dir, _ := quickstart(t, bin)
	steps, err := docs.Steps()
	until := slices.IndexFunc(steps, func(s docs.Step) bool { return s.Section == "Consolidation" })
	if until < 0 {
		t.Fatal("the guide has no section Consolidation")
	}
	walked(t, bin, dir, steps[:until], err)
	steps, err = docs.Operations()
	if said := walked(t, bin, dir, steps, err); said < 8 {
		t.Errorf("the page says of %d blocks what they print: the walk has shown little", said)
	}
}

// TestGuideHasEveryPhase: the phases of the user flow are headings, in its order.
func TestGuideHasEveryPhase(t *testing.T) {
	steps, err := docs.Steps()
	if err != nil {
		t.Fatal(err)
	}
	var sections []string
	for _, s := range steps {
		if !slices.Contains(sections, s.Section) {
			sections = append(sections, s.Section)
		}
	}
	phases := []string{"Data preparation", "Code preparation", "Specification generation", "Pre-provisioning", "Resource provisioning",
		"Compute provisioning", "Application execution", "Consolidation", "Teardown"}
	if i := slices.Index(sections, phases[0]); i < 0 || !slices.Equal(sections[i:], phases) {
		t.Errorf("the guide's sections are %q", sections)
	}
}

// TestPrinted: what differs is seen, also at the ends.
func TestPrinted(t *testing.T) {
	s := docs.Step{Output: "made ... of 3\n...(done)\n"}
	for out, want := range map[string]bool{
		"made 1 of 3\nx\n(done)\n": true, "made  of 3\n(done)": true,
		"made 1 of 33\n(done)": false, "made 1 of 3\n(done) x": false, "unmade 1 of 3\n(done)": false, "": false,
	} {
		if s.Printed(out) != want {
			t.Errorf("Printed(%q) is %t", out, !want)
		}
	}
}
