//go:build linux

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
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/governance/tiles"

	"golang.org/x/mod/sumdb/tlog"
)

// The appender of the kill tests is this test binary run again, under strace,
// which kills it with SIGKILL as it enters the n-th system call that changes a
// file: before the kernel does anything, so after the call before it. The binary
// says what was acknowledged.
const childDir, childTogether, childKey = "CLOISTER_LEDGER_DIR", "CLOISTER_LEDGER_TOGETHER", "CLOISTER_LEDGER_KEY"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := appendForChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// childAppends is how many appends the child makes.
const childAppends = 3

// teller is a ledger that says what it acknowledged.
type teller struct{ *Ledger }

func (l *teller) Append(ctx context.Context, entries ...[]byte) (governance.Receipt, error) {
	r, err := l.Ledger.Append(ctx, entries...)
	for i := range r.Count {
		fmt.Println(r.Index + int64(i))
	}
	return r, err
}

func appendForChild(dir string) error {
	raw, err := hex.DecodeString(os.Getenv(childKey))
	if err != nil {
		return err
	}
	// The fold is saved with every commit, so that a kill also falls into that.
	opened, err := Open(context.Background(), dir, func(l *Ledger) { l.saveEvery = 1 })
	if err != nil {
		return err
	}
	l := &teller{Ledger: opened}
	a := newAuthor(&testing.T{}, raw)
	a.counter = 100
	if os.Getenv(childTogether) == "true" {
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
	governance.RunLog
	Key() string
}) (*governance.Run, error) {
	trust := governance.Trust{Ledger: l.Key(), Specification: digestA, ContainerPolicy: digestA, Parties: []string{a.key.Public().Fingerprint()}}
	return governance.Begin(ctx, l, trust, func(context.Context, governance.Binding) (statement.Evidence, []byte, error) {
		return statement.Evidence{Platform: "simulated", Report: []byte("report")}, []byte("tls key"), nil
	})
}

// changes are the system calls with which package os changes files. Each thread
// counts its own, so the child is kept to as few as may be.
var changes = []string{"write", "fsync", "renameat", "linkat", "unlinkat", "mkdirat"}

func TestKilledAtEveryWriteLosesNothingAcknowledged(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Fatal("needs strace: apt-get install strace")
	}
	for _, call := range changes {
		for _, together := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s together %t", call, together), func(t *testing.T) {
				t.Parallel()
				kills := 0
				for dead := true; dead; kills++ {
					dir, a := initFor(t)
					put(t, open(t, dir), a.propose(), a.approve())
					var out string
					out, dead = killed(t, a, dir, call, kills+1, together)
					unsaid := int64(1)
					if together {
						unsaid = togetherSize + 1 // run-begin goes with the first
					}
					checkAfterKill(t, dir, a, out, unsaid)
				}
				if least := map[string]int{"write": childAppends, "fsync": childAppends, "renameat": childAppends}[call]; kills <= least {
					t.Errorf("%d kills: the test looked at too little", kills-1)
				}
				t.Logf("killed at %d calls of %s", kills-1, call)
			})
		}
	}
}

// killed runs the child until the n-th change of one call, and says whether it
// was killed by then.
func killed(t *testing.T, a *author, dir, call string, n int, together bool) (out string, dead bool) {
	t.Helper()
	raw, err := a.key.PKCS8()
	check(t, err)
	self, err := os.Executable()
	check(t, err)
	child := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n), self)
	child.Env = append(os.Environ(), "GOMAXPROCS=1", childDir+"="+dir, fmt.Sprintf("%s=%t", childTogether, together), childKey+"="+hex.EncodeToString(raw))
	var stderr bytes.Buffer
	child.Stderr = &stderr
	stdout, err := child.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status := exit.Sys().(syscall.WaitStatus); status.Signal() == syscall.SIGKILL {
			return string(stdout), true
		}
	}
	if err != nil {
		t.Fatalf("the child: %v\n%s", err, &stderr)
	}
	return string(stdout), false
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
	if want := folded(t, dir); !reflect.DeepEqual(l.view, want) {
		t.Errorf("the ledger goes by\n%+v, its log says\n%+v", l.view, want)
	}
	a.counter = 200
	r, err := l.Append(t.Context(), a.grant())
	check(t, err)
	if r.Index < acknowledged || r.Index > acknowledged+unsaid {
		t.Errorf("%d entries were acknowledged, the next is %d", acknowledged, r.Index)
	}
	v := governance.NewView(l.Key())
	if err := v.AdvanceToNewest(t.Context(), tiles.NewReader(tiles.Dir(dir).Fetch), func(s governance.Seen) {
		if s.Refused != nil {
			t.Errorf("entry %d: %v", s.Index, s.Refused)
		}
	}); err != nil {
		t.Error(err)
	}
	if size, err := l.store.size(t.Context()); err != nil || size != r.Index+1 {
		t.Errorf("the tiles hold %d entries, the log %d (%v)", size, r.Index+1, err)
	}
}

// TestWhatNoKillLeavesIsNotRepaired: what the fold refuses, or a log that lost
// entries, is somebody's doing.
func TestWhatNoKillLeavesIsNotRepaired(t *testing.T) {
	for _, tc := range []struct {
		name   string
		tamper func(t *testing.T, l *Ledger, a *author)
		want   string
	}{
		{"a forged entry", func(t *testing.T, l *Ledger, a *author) {
			check(t, l.store.add(t.Context(), 2, [][]byte{newAuthor(t, nil).grant()}))
		}, "entry 2, after the last checkpoint, was not written by a ledger: "},
		{"no statement", func(t *testing.T, l *Ledger, a *author) {
			check(t, l.store.add(t.Context(), 2, [][]byte{[]byte("x")}))
		}, "was not written by a ledger: malformed"},
		{"more than one commit's", func(t *testing.T, l *Ledger, a *author) {
			check(t, l.store.add(t.Context(), 2, slices.Repeat([][]byte{a.grant()}, maxTogether+1)))
		}, "the tiles hold 1027 entries, the last checkpoint is of 2"},
		{"fewer than the checkpoint's", func(t *testing.T, l *Ledger, a *author) {
			check(t, os.WriteFile(filepath.Join(string(l.dir), tiles.TileDir, ".state", "treeState"), []byte(`{"size":1,"root":""}`), 0o644))
		}, "the tiles hold 1 entries, the last checkpoint is of 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, a := initFor(t)
			l := open(t, dir)
			put(t, l, a.propose(), a.approve())
			tc.tamper(t, l, a)
			before := snapshot(t, dir)
			_, err := l.Append(t.Context(), a.grant())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
			if snapshot(t, dir) != before {
				t.Error("the files were changed")
			}
		})
	}
}

// TestNothingIsAcknowledgedBeforeItIsCosigned: and what could not be is offered
// again, first.
func TestNothingIsAcknowledgedBeforeItIsCosigned(t *testing.T) {
	dir, a := initFor(t)
	key := must(tiles.Dir(dir).Key())
	var away error
	var seen governance.Checkpoint
	cosign := func(ctx context.Context, signed []byte, prove func(context.Context, int64) (tlog.TreeProof, error)) ([]byte, error) {
		proof, err := prove(ctx, seen.Size)
		if err != nil {
			return nil, err
		}
		c, err := governance.OpenCheckpoint(signed, key)
		check(t, err)
		if seen.Size > 0 {
			check(t, tlog.CheckTree(proof, c.Size, c.Root, seen.Size, seen.Root))
		}
		if away == nil {
			seen = c
		}
		return append(signed, "\u2014 witness c29tZSBzaWduYXR1cmU=\n"...), away
	}
	l, err := Open(t.Context(), dir, WithCosign(cosign))
	check(t, err)
	defer l.Close()
	put(t, l, a.propose(), a.approve())
	away = errors.New("the witness is away")
	published := must(l.Checkpoint(t.Context()))
	if _, err := l.Append(t.Context(), a.grant()); err == nil || !strings.Contains(err.Error(), "the witness is away") {
		t.Errorf("got %v", err)
	}
	if now := must(l.Checkpoint(t.Context())); !bytes.Equal(now, published) {
		t.Errorf("published without a cosignature:\n%s", now)
	}
	away = nil
	r, err := l.Append(t.Context(), a.grant())
	if check(t, err); r.Index != 3 || !bytes.Contains(r.Checkpoint, []byte("\u2014 witness ")) {
		t.Errorf("entry %d, %s", r.Index, r.Checkpoint)
	}
}

// TestFullDiskLeavesNoHalfEntry: what cannot be written is refused whole, and the
// ledger goes on where there is room again.
func TestFullDiskLeavesNoHalfEntry(t *testing.T) {
	small := tempDir(t)
	if err := syscall.Mount("none", small, "tmpfs", 0, "size=160k"); err != nil {
		t.Fatalf("needs to mount a small disk, so root: %v", err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(small, 0)) })
	dir := filepath.Join(small, "ledger")
	a := newAuthor(t, nil)
	must(Init(dir, "", a.key.Public().Fingerprint()))
	l, err := Open(t.Context(), dir)
	check(t, err)
	put(t, l, a.propose(), a.approve())
	ballast := filepath.Join(small, "ballast")
	_ = os.WriteFile(ballast, make([]byte, 1<<20), 0o600)
	if _, err := l.Append(t.Context(), a.grant()); err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("got %v", err)
	}
	check(t, os.Remove(ballast))
	put(t, l, a.grant())
	l.Close()
	again, err := Open(t.Context(), dir)
	check(t, err)
	again.Close()
}

// TestAppendOfSeveral is one checkpoint over all, refused as a whole where they
// are not of one run, and up to the first that is refused where they are.
func TestAppendOfSeveral(t *testing.T) {
	dir, a := initFor(t)
	l := open(t, dir)
	put(t, l, a.propose(), a.approve())
	before := snapshot(t, dir)
	for name, several := range map[string][][]byte{
		"a party's": {a.grant(), a.grant()}, "none": {}, "too many": slices.Repeat([][]byte{a.grant()}, governance.MaxAppend+1), "no statements": {[]byte("x"), []byte("y")},
	} {
		if _, err := l.Append(t.Context(), several...); err == nil || snapshot(t, dir) != before {
			t.Errorf("%s: %v", name, err)
		}
	}
	r, err := a.run(t.Context(), l)
	check(t, err)
	if n, err := r.Record(t.Context(), append(refusals(2), governance.Event{Kind: "data", Name: "v"}, refusals(1)[0])...); n != 2 || governance.ReasonOf(err) != governance.NoConsent {
		t.Errorf("%d, %v", n, err)
	}
	c, err := governance.OpenCheckpoint(must(l.Checkpoint(t.Context())), l.Key())
	if check(t, err); c.Size != 5 || len(entries(t, dir)) != 5 {
		t.Errorf("%d entries, %d in the bundles", c.Size, len(entries(t, dir)))
	}
	if _, err := r.Record(t.Context(), refusals(governance.MaxAppend)...); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.Context(), dir); err != nil {
		t.Error(err)
	}
}
