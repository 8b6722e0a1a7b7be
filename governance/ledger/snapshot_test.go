package ledger

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"cloister/governance"
	"cloister/governance/tiles"
)

// saved is a closed ledger with full tiles, whose fold is saved, and more entries
// after that.
func saved(t *testing.T) (dir string, a *author) {
	t.Helper()
	dir, a = initFor(t)
	l := open(t, dir)
	put(t, l, a.propose(), a.approve())
	fill(t, l, a, tiles.Width)
	l.Close()
	l = must(Open(t.Context(), dir, withoutSaving))
	put(t, l, a.grant())
	l.store.close() // as a kill ends it
	return dir, a
}

// withoutSaving has a ledger leave the snapshot as it is.
func withoutSaving(l *Ledger) { l.saveEvery = 1 << 40 }

// folded is what the whole log comes to.
func folded(t *testing.T, dir string) *governance.View {
	t.Helper()
	v := governance.NewView(must(tiles.Dir(dir).Key()))
	check(t, v.AdvanceToNewest(t.Context(), tiles.NewReader(tiles.Dir(dir).Fetch), nil))
	return v
}

// checkOpens wants a ledger that goes by what its log says.
func checkOpens(t *testing.T, dir, what string, options ...Option) {
	t.Helper()
	l, err := Open(t.Context(), dir, options...)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer l.store.close()
	if want := folded(t, dir); !reflect.DeepEqual(l.view, want) {
		t.Fatalf("%s: the ledger goes by\n%+v, its log says\n%+v", what, l.view, want)
	}
}

// TestAStartReadsWhatCameSinceTheSnapshot: what was verified before it is not read
// again, unless that is asked for.
func TestAStartReadsWhatCameSinceTheSnapshot(t *testing.T) {
	dir, _ := saved(t)
	checkOpens(t, dir, "a saved ledger", withoutSaving)
	bundle := filepath.Join(dir, tiles.TileDir, "tile", "entries", "000")
	raw := must(os.ReadFile(bundle))
	raw[len(raw)/2] ^= 1
	check(t, os.Chmod(bundle, 0o644))
	check(t, os.WriteFile(bundle, raw, 0o644))
	l, err := Open(t.Context(), dir, withoutSaving)
	if check(t, err); l.saved != l.view.Tree().Size()-1 {
		t.Errorf("%d entries of %d are from the snapshot", l.saved, l.view.Tree().Size())
	}
	l.store.close()
	if _, err := Open(t.Context(), dir, WithoutSnapshot()); err == nil {
		t.Error("a damaged entry is not found in the whole log")
	}
}

// TestASnapshotThatDoesNotHoldChangesNothing: whatever is in the file, the ledger
// goes by what its log says.
func TestASnapshotThatDoesNotHoldChangesNothing(t *testing.T) {
	dir, _ := saved(t)
	path := filepath.Join(dir, snapshotFile)
	good := must(os.ReadFile(path))
	try := func(what string, raw []byte) {
		t.Helper()
		check(t, os.WriteFile(path, raw, 0o600))
		checkOpens(t, dir, what, withoutSaving)
	}
	for i := 0; i < len(good); i += 1 + len(good)/40 {
		changed := bytes.Clone(good)
		changed[i] ^= 1
		try("a changed byte", changed)
	}
	for _, n := range []int{0, 31, 32, len(good) - 1} {
		try("a part", good[:n])
	}
	other, _ := saved(t)
	try("another ledger's", must(os.ReadFile(filepath.Join(other, snapshotFile))))
	var program sealKey // of another program, or of whoever has not the ledger's key
	try("another program's", append(program.over(good[32:]), good[32:]...))
	check(t, os.Remove(path))
	checkOpens(t, dir, "none", withoutSaving)
}

// TestASnapshotOfMoreThanTheLogIsPassedOver: the log was restored from a backup.
func TestASnapshotOfMoreThanTheLogIsPassedOver(t *testing.T) {
	dir, a := saved(t)
	backup := filepath.Join(tempDir(t), "backup")
	must(Backup(t.Context(), dir, backup))
	l := open(t, dir)
	put(t, l, a.grant())
	l.Close()
	check(t, os.WriteFile(filepath.Join(backup, snapshotFile), must(os.ReadFile(filepath.Join(dir, snapshotFile))), 0o600))
	checkOpens(t, backup, "a log older than the snapshot")
}
