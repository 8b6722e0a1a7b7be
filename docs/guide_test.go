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
	"cloister/internal/azurite"
	"cloister/internal/fault"
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

// walked walks the steps, and returns what was printed, and of how many steps the
// page says what they print.
func walked(t *testing.T, bin, dir string, steps []docs.Step, err error) (printed string, said int) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	err = walk.Walk(t.Context(), bin, dir, steps, func(s docs.Step, out string, _ time.Duration) {
		if printed += out; s.Output != "" {
			said++
		}
		t.Logf("%s: %s\n%s%s", s.Section, s.Party, s.Text, out)
	})
	if err != nil {
		t.Fatal(err)
	}
	return printed, said
}

// TestGuide carries out every command of the guide, in the folder that quickstart
// makes, and holds what each prints against the page; with volumes in folders, and
// in Azurite behind the blob service that checks roles, an account for each tenant.
func TestGuide(t *testing.T) {
	bin := build(t)
	for name, tc := range map[string]struct {
		start   func(t *testing.T, dir string) // before the walk
		refused string                         // to the hospital, the lab's output
	}{
		"folders": {func(*testing.T, string) {}, "refused with exit code 5"},
		"Azurite": {keepInAzurite, "refused with exit code 4"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, quick := quickstart(t, bin)
			tc.start(t, dir)
			steps, err := docs.Steps()
			printed, said := walked(t, bin, dir, steps, err)
			if said < 10 {
				t.Errorf("the guide says of %d blocks what they print: the walk has shown little", said)
			}
			if !strings.Contains(printed, tc.refused) {
				t.Errorf("the hospital is not %s at the report", tc.refused)
			}
			checkWalked(t, bin, dir, quick, steps)
		})
	}
}

// keepInAzurite has the guide's volumes in an Azurite of its own, whose files are in
// the store's folder, where the guide looks for what it can read.
func keepInAzurite(t *testing.T, dir string) {
	server, err := azurite.Launch(t.Context(), nil, "--location", filepath.Join(dir, "store"))
	if err != nil {
		t.Fatalf("%v (%s)", err, strings.Join(fault.Hints(err), "; "))
	}
	t.Cleanup(server.Close)
	t.Setenv("AZURITE", server.Endpoint)
	t.Cleanup(func() {
		blobs, err := filepath.Glob(filepath.Join(dir, "store", "__blobstorage__", "*"))
		if folders, _ := filepath.Glob(filepath.Join(dir, "store", "re*")); len(blobs) == 0 || len(folders) > 0 {
			t.Errorf("the volumes are not in Azurite: %q, %q, %v", blobs, folders, err)
		}
	})
}

func checkWalked(t *testing.T, bin, dir, quick string, steps []docs.Step) {
	t.Helper()
	for _, s := range steps {
		if s.File == "" && !strings.Contains(quick, s.Text) {
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
	if _, said := walked(t, bin, dir, steps, err); said < 8 {
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
