//go:build unix

package ledger

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"cloister/governance"
	"cloister/governance/statement"
)

// The appender of the kill tests is this test binary run again: it appends
// grants, prints each acknowledged index, and kills itself with SIGKILL at the
// n-th step of its writes.
const childDir, childStep, childKey = "CLOISTER_LEDGER_DIR", "CLOISTER_LEDGER_STEP", "CLOISTER_LEDGER_KEY"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := appendUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const childAppends = 3

// stepsPerAppend is how many times files.before is called for one append.
const stepsPerAppend = 5

// teller is a ledger that says what it acknowledged.
type teller struct {
	*Ledger
	next []byte // what is being appended
}

func (l *teller) Append(ctx context.Context, entries ...[]byte) (governance.Receipt, error) {
	l.next = append(bytes.Join(entries, []byte("\n")), '\n')
	r, err := l.Ledger.Append(ctx, entries...)
	for i := range r.Count {
		fmt.Println(r.Index + int64(i))
	}
	return r, err
}

func appendUntilKilled(dir string) error {
	var step int
	var torn, together bool
	if _, err := fmt.Sscanf(os.Getenv(childStep), "%d %t %t", &step, &torn, &together); err != nil {
		return err
	}
	raw, err := hex.DecodeString(os.Getenv(childKey))
	if err != nil {
		return err
	}
	opened, err := Open(context.Background(), dir)
	if err != nil {
		return err
	}
	l := &teller{Ledger: opened}
	a := newAuthor(&testing.T{}, raw)
	a.counter = 100
	seen := 0
	l.files.before = func(name string) {
		if seen++; seen != step {
			return
		}
		if torn && name == "write" {
			// The kernel took half of the write.
			f, err := os.OpenFile(filepath.Join(dir, entriesFile), os.O_WRONLY|os.O_APPEND, 0)
			if err == nil {
				_, _ = f.Write(l.next[:len(l.next)/2])
			}
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	if together {
		return appendTogether(l, a)
	}
	for range childAppends {
		if _, err := l.Append(context.Background(), a.grant()); err != nil {
			return err
		}
	}
	return nil
}

// togetherSize is how many statements one append of a run has.
const togetherSize = 3

// appendTogether appends a run's statements, several at a time.
func appendTogether(l *teller, a *author) error {
	r, err := a.run(context.Background(), l)
	if err != nil {
		return err
	}
	for range childAppends {
		if _, err := r.Record(context.Background(), refusals(togetherSize)...); err != nil {
			return err
		}
	}
	return nil
}

// refusals are events that need no consent.
func refusals(n int) []governance.Event {
	return slices.Repeat([]governance.Event{{Kind: governance.EventRefusal, Name: "step", Detail: "why"}}, n)
}

// run begins a run of the author's contract.
func (a *author) run(ctx context.Context, l interface {
	governance.Log
	Key() string
}) (*governance.Run, error) {
	trust := governance.Trust{Ledger: l.Key(), Specification: digestA, ContainerPolicy: digestA, Parties: []string{a.key.Public().Fingerprint()}}
	return governance.Begin(ctx, l, trust, func(context.Context, governance.Binding) (statement.Evidence, []byte, error) {
		return statement.Evidence{Platform: "simulated", Report: []byte("report")}, []byte("tls key"), nil
	})
}

func TestKilledAtEveryWriteLosesNothingAcknowledged(t *testing.T) {
	self, err := os.Executable()
	check(t, err)
	killed := 0
	for _, tc := range []struct{ torn, together bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		for step := 1; step <= childAppends*stepsPerAppend+1; step++ {
			if tc.torn && step%stepsPerAppend != 1 {
				continue
			}
			t.Run(fmt.Sprintf("step %d torn %t together %t", step, tc.torn, tc.together), func(t *testing.T) {
				dir := initLedger(t)
				a := newAuthor(t, nil)
				put(t, open(t, dir), a.propose(), a.approve())
				raw, err := a.key.PKCS8()
				check(t, err)

				child := exec.Command(self)
				child.Env = append(os.Environ(), childDir+"="+dir, fmt.Sprintf("%s=%d %t %t", childStep, step, tc.torn, tc.together), childKey+"="+hex.EncodeToString(raw))
				var stderr bytes.Buffer
				child.Stderr = &stderr
				out, err := child.Output()
				var exit *exec.ExitError
				dead := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
				if dead != (step <= childAppends*stepsPerAppend) {
					t.Fatalf("killed: %v (%v)\n%s", dead, err, &stderr)
				}
				if dead {
					killed++
				}
				unsaid := int64(1)
				if tc.together {
					unsaid = togetherSize + 1 // run-begin goes with the first
				}
				checkAfterKill(t, dir, a, string(out), unsaid)
			})
		}
	}
	if killed != 2*childAppends*(stepsPerAppend+1) {
		t.Errorf("%d kills: the test looked at too little", killed)
	}
}

// checkAfterKill wants every acknowledged entry and at most one append's more, a
// log that verifies, and an appender that goes on.
func checkAfterKill(t *testing.T, dir string, a *author, out string, unsaid int64) {
	t.Helper()
	acknowledged := int64(2)
	for s := bufio.NewScanner(strings.NewReader(out)); s.Scan(); acknowledged++ {
		if s.Text() != fmt.Sprint(acknowledged) {
			t.Fatalf("the child acknowledged %q, want %d", s.Text(), acknowledged)
		}
	}
	l := open(t, dir)
	a.counter = 200
	r, err := l.Append(t.Context(), a.grant())
	check(t, err)
	if r.Index < acknowledged || r.Index > acknowledged+unsaid {
		t.Errorf("%d entries were acknowledged, the next is %d", acknowledged, r.Index)
	}
	v := governance.NewView(l.Key())
	if err := v.AdvanceToNewest(t.Context(), Read(dir), func(s governance.Seen) {
		if s.Refused != nil {
			t.Errorf("entry %d: %v", s.Index, s.Refused)
		}
	}); err != nil {
		t.Error(err)
	}
	if raw := must(os.ReadFile(filepath.Join(dir, entriesFile))); bytes.Count(raw, []byte("\n")) != int(r.Index)+1 || raw[len(raw)-1] != '\n' {
		t.Errorf("the file has %d lines, the log %d entries", bytes.Count(raw, []byte("\n")), r.Index+1)
	}
}

// TestWhatNoKillLeavesIsNotRepaired: more than one append's worth after the
// checkpoint, or a line that no ledger writes, is somebody's doing.
func TestWhatNoKillLeavesIsNotRepaired(t *testing.T) {
	for _, tc := range []struct {
		name string
		tail func(a *author) []byte
		want string
	}{
		{"two lines", func(a *author) []byte { return append(append(append(a.grant(), '\n'), a.grant()...), '\n') }, "bytes after the last checkpoint"},
		{"a line and a half", func(a *author) []byte { return append(append(a.grant(), '\n'), "x"...) }, "bytes after the last checkpoint"},
		{"a long torn line", func(*author) []byte { return bytes.Repeat([]byte{0}, 70_000) }, "bytes after the last checkpoint"},
		{"a forged line", func(a *author) []byte { return append(newAuthor(t, nil).grant(), '\n') }, "was not written by a ledger: "},
		{"an empty line", func(a *author) []byte { return []byte("\n") }, "was not written by a ledger: malformed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := initLedger(t)
			a := newAuthor(t, nil)
			l := open(t, dir)
			put(t, l, a.propose(), a.approve())
			f, err := os.OpenFile(filepath.Join(dir, entriesFile), os.O_WRONLY|os.O_APPEND, 0)
			check(t, err)
			_, err = f.Write(tc.tail(a))
			check(t, errors.Join(err, f.Close()))
			before := snapshot(t, dir)
			_, err = open(t, dir).Append(t.Context(), a.grant())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
			if snapshot(t, dir) != before {
				t.Error("the files were changed")
			}
		})
	}
}

// TestFullDiskLeavesNoHalfEntry: a write that fails is taken back at once.
func TestFullDiskLeavesNoHalfEntry(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Fatal("needs /dev/full")
	}
	dir := initLedger(t)
	a := newAuthor(t, nil)
	l := open(t, dir)
	put(t, l, a.propose(), a.approve())
	entries := filepath.Join(dir, entriesFile)
	check(t, os.Rename(entries, entries+".real"))
	check(t, os.Symlink("/dev/full", entries))
	err := l.files.appendLines([][]byte{a.grant()})
	if err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("got %v", err)
	}
	check(t, os.Rename(entries+".real", entries))
	put(t, l, a.grant())
}

// TestAppendOfSeveral is one checkpoint over all, refused as a whole where they
// are not of one run, and up to the first that is refused where they are.
func TestAppendOfSeveral(t *testing.T) {
	dir := initLedger(t)
	a := newAuthor(t, nil)
	l := open(t, dir)
	put(t, l, a.propose(), a.approve())
	before := snapshot(t, dir)
	for name, entries := range map[string][][]byte{
		"a party's": {a.grant(), a.grant()}, "none": {}, "too many": slices.Repeat([][]byte{a.grant()}, governance.MaxAppend+1), "no statements": {[]byte("x"), []byte("y")},
	} {
		if _, err := l.Append(t.Context(), entries...); err == nil || snapshot(t, dir) != before {
			t.Errorf("%s: %v", name, err)
		}
	}
	r, err := a.run(t.Context(), l)
	check(t, err)
	if n, err := r.Record(t.Context(), append(refusals(2), governance.Event{Kind: "data", Name: "v"}, refusals(1)[0])...); n != 2 || governance.ReasonOf(err) != governance.NoConsent {
		t.Errorf("%d, %v", n, err)
	}
	c, err := governance.OpenCheckpoint(must(l.Checkpoint(t.Context())), l.Key())
	if check(t, err); c.Size != 5 || len(lines(t, dir)) != 5 {
		t.Errorf("%d entries, %d lines", c.Size, len(lines(t, dir)))
	}
	if _, err := r.Record(t.Context(), refusals(governance.MaxAppend)...); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.Context(), dir); err != nil {
		t.Error(err)
	}
}
