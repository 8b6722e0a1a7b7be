package ledger

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"cloister/governance"
	"cloister/governance/tiles"
	"cloister/internal/fault"
)

// TestBackupOfARunningLedger: each copy made while others append is a ledger that
// verifies and goes on.
func TestBackupOfARunningLedger(t *testing.T) {
	dir, a := initFor(t)
	l := open(t, dir)
	put(t, l, a.propose(), a.approve())
	fill(t, l, a, 2*tiles.Width) // so that there are full tiles
	ctx, stop := context.WithCancel(t.Context())
	var appending sync.WaitGroup
	run, err := a.run(t.Context(), l)
	check(t, err)
	appending.Go(func() {
		for ctx.Err() == nil {
			if _, err := run.Record(t.Context(), refusals(10)...); err != nil {
				t.Error(err)
				return
			}
		}
	})
	before := int64(0)
	for range 5 {
		to := filepath.Join(tempDir(t), "backup")
		at, err := Backup(t.Context(), dir, to)
		check(t, err)
		if at.Size < before || at.Size < 2*tiles.Width {
			t.Errorf("a copy of %d entries after one of %d", at.Size, before)
		}
		before = at.Size
		goesOn(t, to, at)
	}
	stop()
	appending.Wait()
}

// goesOn opens a copy, which verifies it whole, and appends to it.
func goesOn(t *testing.T, dir string, at governance.Checkpoint) {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, keyFile))
	if check(t, err); info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %o", info.Mode().Perm())
	}
	copied := open(t, dir)
	if got := copied.view.Tree(); got.Size() != at.Size || got.Root() != at.Root {
		t.Errorf("the copy is of %d entries, it was said to be of %d", got.Size(), at.Size)
	}
	eve := newAuthor(t, nil)
	if _, err := copied.Append(t.Context(), eve.grant()); governance.ReasonOf(err) != governance.NotAParty {
		t.Errorf("the copy's fold: %v", err)
	}
}

// TestRestoredBackupIsSeen: a restored log goes on where it was copied, and who
// saw more of it says that it was rolled back; who saw no more goes on with it.
func TestRestoredBackupIsSeen(t *testing.T) {
	dir, a := initFor(t)
	l := open(t, dir)
	put(t, l, a.propose(), a.approve())
	early := governance.NewView(l.Key())
	check(t, early.AdvanceToNewest(t.Context(), l, nil))
	to := filepath.Join(tempDir(t), "backup")
	_, err := Backup(t.Context(), dir, to)
	check(t, err)
	put(t, l, a.grant())
	late := governance.NewView(l.Key())
	check(t, late.AdvanceToNewest(t.Context(), l, nil))
	_, remembered := late.Checkpoint()

	restored := open(t, to)
	if err := late.AdvanceToNewest(t.Context(), restored, nil); err == nil || !strings.Contains(err.Error(), "it was rolled back") {
		t.Errorf("who saw more: %v", err)
	}
	auditor := governance.Auditor{Key: l.Key(), Remembered: remembered}
	report, err := auditor.Audit(t.Context(), restored)
	if check(t, err); report.Err() == nil || !strings.Contains(report.Err().Error(), "remembered head: 3 entries were there before, 2 are there now: the log was rolled back") {
		t.Errorf("an auditor with a head: %v", report.Err())
	}
	put(t, restored, a.grant())
	check(t, early.AdvanceToNewest(t.Context(), restored, nil))
}

func TestBackupRefuses(t *testing.T) {
	dir, a := initFor(t)
	put(t, open(t, dir), a.propose())
	if _, err := Backup(t.Context(), dir, dir); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("onto itself: %v", err)
	}
	if _, err := Backup(t.Context(), tempDir(t), filepath.Join(tempDir(t), "x")); fault.KindOf(err) != fault.NotFound {
		t.Errorf("no ledger: %v", err)
	}
	check(t, os.RemoveAll(filepath.Join(dir, tiles.TileDir, "tile", "0")))
	to := filepath.Join(tempDir(t), "backup")
	if _, err := Backup(t.Context(), dir, to); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "checking the copy") {
		t.Errorf("of a damaged log: %v", err)
	}
	if _, err := Open(t.Context(), to); fault.KindOf(err) != fault.NotFound {
		t.Errorf("a failed copy is a ledger: %v", err)
	}
}
