package tiles

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"cloister/governance"
	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/tlog"
)

// memory is a log in memory, as the tiles of C2SP tlog-tiles.
type memory struct {
	entries [][]byte
	hashes  []tlog.Hash
	bend    func(t tlog.Tile, raw []byte) []byte // what is shown in a tile's place
}

func (m *memory) ReadHashes(indexes []int64) (list []tlog.Hash, err error) {
	for _, i := range indexes {
		list = append(list, m.hashes[i])
	}
	return list, nil
}

func newMemory(t *testing.T, n int64) *memory {
	t.Helper()
	m := &memory{}
	for i := range n {
		entry := fmt.Append(nil, "entry ", i)
		more, err := tlog.StoredHashes(i, entry, m)
		if err != nil {
			t.Fatal(err)
		}
		m.entries, m.hashes = append(m.entries, entry), append(m.hashes, more...)
	}
	return m
}

func (m *memory) checkpoint(t *testing.T) governance.Checkpoint {
	t.Helper()
	root, err := tlog.TreeHash(int64(len(m.entries)), m)
	if err != nil {
		t.Fatal(err)
	}
	return governance.Checkpoint{Size: int64(len(m.entries)), Root: root}
}

func (m *memory) fetch(_ context.Context, path string) ([]byte, error) {
	tile, err := ParsePath(path)
	if err != nil {
		return nil, err
	}
	lies, ok := At(tile.L, tile.N, int64(len(m.entries)))
	if !ok || tile.W > lies.W {
		return nil, fault.Errorf(fault.NotFound, "x", "no %s", path)
	}
	var raw []byte
	if tile.L == Bundle {
		for _, e := range m.entries[tile.N*Width : tile.N*Width+int64(tile.W)] {
			raw = append(binary.BigEndian.AppendUint16(raw, uint16(len(e))), e...)
		}
	} else if raw, err = tlog.ReadTileData(tile, m); err != nil {
		return nil, err
	}
	if m.bend != nil {
		raw = m.bend(tile, raw)
	}
	return raw, nil
}

const size = 2*Width + 3 // two full tiles, a part, and one above

func TestEntriesAndHashesOfALog(t *testing.T) {
	m := newMemory(t, size)
	r := NewReader(m.fetch)
	for from := int64(0); from < size; {
		got, err := r.Entries(t.Context(), from, size)
		if err != nil || len(got) == 0 {
			t.Fatalf("from %d: %d, %v", from, len(got), err)
		}
		for i, e := range got {
			if want := m.entries[from+int64(i)]; !bytes.Equal(e, want) {
				t.Fatalf("entry %d is %q", from+int64(i), e)
			}
		}
		from += int64(len(got))
	}
	at := m.checkpoint(t)
	for _, n := range []int64{0, 1, Width - 1, Width, 2 * Width, size - 1} {
		got, err := r.Hashes(t.Context(), at, n)
		if err != nil || got[0] != tlog.RecordHash(m.entries[n]) {
			t.Errorf("entry %d: %v, %v", n, got, err)
		}
	}
	for _, n := range []int64{-1, size} {
		if _, err := r.Hashes(t.Context(), at, n); fault.KindOf(err) != fault.NotFound {
			t.Errorf("entry %d: %v", n, err)
		}
	}
	for _, span := range [][2]int64{{-1, 1}, {1, 1}, {2, 1}} {
		if _, err := r.Entries(t.Context(), span[0], span[1]); err == nil {
			t.Errorf("entries %v are there", span)
		}
	}
}

// TestTilesThatAreNotTheLogs: cut off, changed, or another's, each is refused; and
// what was refused is not remembered.
func TestTilesThatAreNotTheLogs(t *testing.T) {
	m := newMemory(t, size)
	at := m.checkpoint(t)
	for name, bend := range map[string]func(tlog.Tile, []byte) []byte{
		"nothing":        func(tlog.Tile, []byte) []byte { return nil },
		"cut off":        func(_ tlog.Tile, raw []byte) []byte { return raw[:len(raw)-1] },
		"one bit":        func(_ tlog.Tile, raw []byte) []byte { raw = bytes.Clone(raw); raw[len(raw)-1] ^= 1; return raw },
		"another tile":   func(_ tlog.Tile, raw []byte) []byte { return bytes.Repeat([]byte{7}, len(raw)) },
		"half of a hash": func(_ tlog.Tile, raw []byte) []byte { return raw[:tlog.HashSize/2] },
	} {
		r := NewReader(m.fetch)
		m.bend = bend
		for _, n := range []int64{0, Width, size - 1} {
			if _, err := r.Hashes(t.Context(), at, n); fault.KindOf(err) != fault.Refused {
				t.Errorf("%s: entry %d: %v", name, n, err)
			}
		}
		m.bend = nil
		if _, err := r.Hashes(t.Context(), at, 0, Width, size-1); err != nil {
			t.Errorf("%s, and then the log's: %v", name, err)
		}
	}
	r := NewReader(m.fetch)
	for name, bundle := range map[string][]byte{"nothing": {}, "one byte": {0}, "a length alone": {0, 9}, "fewer": {0, 1, 'a'}} {
		m.bend = func(tlog.Tile, []byte) []byte { return bundle }
		if _, err := r.Entries(t.Context(), 0, size); fault.KindOf(err) != fault.Refused {
			t.Errorf("a bundle of %s: %v", name, err)
		}
	}
}

// TestAPartThatIsGoneIsReadOffTheWhole: once a tile is full, its log may drop parts.
func TestAPartThatIsGoneIsReadOffTheWhole(t *testing.T) {
	m := newMemory(t, size)
	r := NewReader(func(ctx context.Context, path string) ([]byte, error) {
		tile, err := ParsePath(path)
		if err == nil && tile.W < Width {
			return nil, fault.Errorf(fault.NotFound, "x", "no %s", path)
		}
		return m.fetch(ctx, path)
	})
	got, err := r.Entries(t.Context(), 0, 5)
	if err != nil || len(got) != 5 {
		t.Errorf("%d, %v", len(got), err)
	}
	if _, err := r.Entries(t.Context(), 2*Width, size); fault.KindOf(err) != fault.NotFound {
		t.Errorf("a part that is nowhere: %v", err)
	}
	gone := errors.New("gone")
	r = NewReader(func(context.Context, string) ([]byte, error) { return nil, gone })
	if _, err := r.Entries(t.Context(), 0, 5); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

func TestDirectoriesThatAreNoLedgers(t *testing.T) {
	dir := t.TempDir()
	d := Dir(dir)
	if _, err := d.Key(); fault.KindOf(err) != fault.NotFound {
		t.Errorf("got %v", err)
	}
	if _, err := d.Fetch(t.Context(), CheckpointPath); fault.KindOf(err) != fault.NotFound {
		t.Errorf("got %v", err)
	}
	for _, tc := range []struct {
		checkpoint string
		want       fault.Kind
	}{
		{"", fault.Refused}, {"log\nx\n", fault.Refused}, {"log\n-1\nroot\n", fault.Refused}, {"log\n5\nroot\n", fault.Refused},
		{"log\n0\nroot\n", fault.NotFound}, // the last: what follows is asked of a log that is there
	} {
		if err := os.WriteFile(filepath.Join(dir, CheckpointPath), []byte(tc.checkpoint), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Fetch(t.Context(), "tile/entries/000.p/1"); fault.KindOf(err) != tc.want {
			t.Errorf("checkpoint %q: %v", tc.checkpoint, err)
		}
	}
	for _, path := range []string{"../ledger.key", "tile/../../ledger.key", "tile/entries/0", "tile/entries/000.p/256", "tile/64/000", "tile/0/x000/000", ""} {
		if _, err := d.Fetch(t.Context(), path); fault.KindOf(err) != fault.NotFound {
			t.Errorf("%q: %v", path, err)
		}
	}
}

// FuzzSplit: what is taken apart is the bundle, whole.
func FuzzSplit(f *testing.F) {
	f.Add([]byte{0, 1, 'a', 0, 0})
	f.Fuzz(func(t *testing.T, bundle []byte) {
		entries, err := Split(bundle)
		var again []byte
		for _, e := range entries {
			again = append(binary.BigEndian.AppendUint16(again, uint16(len(e))), e...)
		}
		if err == nil && !bytes.Equal(again, bundle) {
			t.Errorf("%x is %x", bundle, again)
		}
		for w := range len(entries) + 2 {
			if part, err := narrow(Bundle, bundle, w); err == nil && !bytes.HasPrefix(bundle, part) {
				t.Errorf("the first %d of %x are %x", w, bundle, part)
			}
		}
	})
}

// FuzzPath: a path is a tile's only if it is how that tile's is written.
func FuzzPath(f *testing.F) {
	f.Add("tile/entries/000.p/1")
	f.Add("tile/1/x001/234")
	f.Fuzz(func(t *testing.T, path string) {
		if tile, err := ParsePath(path); err == nil && Path(tile) != path {
			t.Errorf("%q is %q", path, Path(tile))
		}
	})
}
