//go:build unix

package witness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// The witness of the kill tests is this test binary run again: it is offered one
// checkpoint, prints its cosignature, and kills itself with SIGKILL at a step.
const childDir, childStep = "CLOISTER_WITNESS_DIR", "CLOISTER_WITNESS_STEP"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := cosignUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func cosignUntilKilled(dir string) error {
	w, err := Open(dir)
	if err != nil {
		return err
	}
	w.before = func(step string) {
		if step == os.Getenv(childStep) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	raw, err := os.ReadFile(dir + ".offer")
	if err != nil {
		return err
	}
	old, proof, signed, err := parseRequest(raw)
	if err != nil {
		return err
	}
	line, err := w.Cosign(signed, old, proof)
	if err != nil {
		return err
	}
	fmt.Print(string(line))
	return nil
}

// offerChild offers the tree to a process that dies at a step, and returns what
// it cosigned, and whether it was killed.
func offerChild(t *testing.T, dir, step string, l *tree, old int64) (line string, killed bool) {
	t.Helper()
	proof, err := l.prove(t.Context(), old)
	check(t, err)
	var hashes strings.Builder
	for _, h := range proof {
		fmt.Fprintln(&hashes, tlog.Hash(h).String())
	}
	check(t, os.WriteFile(dir+".offer", fmt.Appendf(nil, "old %d\n%s\n%s", old, hashes.String(), l.signed(t)), 0o600))
	self, err := os.Executable()
	check(t, err)
	child := exec.Command(self)
	child.Env = append(os.Environ(), childDir+"="+dir, childStep+"="+step)
	child.Stderr = os.Stderr
	out, err := child.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return string(out), true
	}
	check(t, err)
	return string(out), false
}

// TestKilledAtEveryStepNeverCosignsTwoLogs offers one log to a witness that is
// killed with SIGKILL at each step of a cosignature, and another, forked from it,
// to the one that is started after it.
func TestKilledAtEveryStepNeverCosignsTwoLogs(t *testing.T) {
	remembered := 0
	for _, step := range []string{"write", "rename", "sync directory", "sign", "none"} {
		t.Run(step, func(t *testing.T) {
			l := newTree(t, "a-ledger").add(t, "0", "1", "2")
			dir := filepath.Join(t.TempDir(), "witness")
			_, err := Init(dir, "", l.key)
			check(t, err)
			_, err = l.offer(t, open(t, dir), 0)
			check(t, err)
			fork := l.fork().add(t, "another", "log")
			l.add(t, "the", "one")

			line, killed := offerChild(t, dir, step, l, 3)
			if killed != (step != "none") || killed != (line == "") {
				t.Fatalf("killed %t, cosigned %q", killed, line)
			}
			after := open(t, dir)
			_, errFork := fork.offer(t, after, 3)
			_, errOne := l.offer(t, after, 3)
			// It goes on with whichever it remembers, and refuses the other.
			var size *SizeError
			status, err := after.Status()
			check(t, err)
			root, err := tlog.TreeHash(l.size, l)
			check(t, err)
			if status.Ledgers[0].Root == root.String() {
				remembered++
				if !errors.As(errFork, &size) || size.Size != 5 {
					t.Errorf("after it remembered one log it cosigned another: %v", errFork)
				}
				if _, err := l.offer(t, after, 5); err != nil {
					t.Errorf("what it remembers it does not cosign: %v", err)
				}
				return
			}
			if line != "" {
				t.Error("it cosigned what it does not remember")
			}
			if errFork != nil || !errors.As(errOne, &size) {
				t.Errorf("the fork: %v; the other: %v", errFork, errOne)
			}
		})
	}
	// Killed from the rename on, it remembers.
	if remembered != 3 {
		t.Errorf("it remembered what it was about to cosign %d times of 5, want 3", remembered)
	}
}

// TestTwoProcessesNeverCosignTwoLogs has two witnesses over one directory race.
func TestTwoProcessesNeverCosignTwoLogs(t *testing.T) {
	for round := range 20 {
		l := newTree(t, "a-ledger").add(t, "0")
		dir := initWitness(t, l.key)
		fork := l.fork().add(t, "another")
		l.add(t, "the one")
		one, two := open(t, dir), open(t, dir)
		done := make(chan error, 2)
		go func() { _, err := l.offer(t, one, 0); done <- err }()
		go func() { _, err := fork.offer(t, two, 0); done <- err }()
		a, b := <-done, <-done
		if (a == nil) == (b == nil) {
			t.Errorf("round %d: %v, %v", round, a, b)
		}
	}
}
