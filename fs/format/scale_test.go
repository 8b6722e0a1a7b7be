package format

import (
	"fmt"
	"testing"
)

// manyFiles is a sealed manifest of so many files, 100 a directory, each with
// an extent.
func manyFiles(t testing.TB, count uint32) []byte {
	t.Helper()
	b := new(Builder)
	key := b.AddKey(Key{Key: NewObjectKey(), Origin: testVolume, Suite: Suite16K})
	object := b.AddObject(Object{ID: ObjectID{9}, Header: Header{headerSize}, SealedLen: Suite16K.SealedLen(5000), Key: key})
	b.AddNode(RootInode, Node{Attr: Attr{Mode: ModeDir | 0o755}})
	dir := uint32(RootInode)
	for inode := uint32(2); count > 0; inode++ {
		if inode%101 == 2 {
			dir = inode
			b.AddNode(dir, Node{Attr: Attr{Mode: ModeDir | 0o755}})
			b.Link(RootInode, fmt.Appendf(nil, "dir-%07d", dir), dir)
			continue
		}
		b.AddNode(inode, Node{Attr: Attr{Mode: ModeFile | 0o644, Size: 1000}, Extents: []Extent{{0, object, 1000, 1000}}})
		b.Link(dir, fmt.Appendf(nil, "file-%07d", inode), inode)
		count--
	}
	sealed, _ := SealManifest(testDEK(), Preamble{Suite: Suite16K, KeyVersion: 1, Volume: testVolume, Epoch: 1}, mustFinish(t, b))
	return sealed
}

// Opening a volume allocates nothing per file: what grows with the manifest is
// the nonce of each of its segments, 12 bytes for every 16 KiB.
func TestOpenAllocatesNothingPerFile(t *testing.T) {
	allocations := func(count uint32) float64 {
		sealed := manyFiles(t, count)
		memory := make([]byte, len(sealed)) // opening is in place
		dek := testDEK()
		return testing.AllocsPerRun(5, func() {
			copy(memory, sealed)
			if _, err := OpenManifest(memory, dek, nil); err != nil {
				t.Fatal(err)
			}
		})
	}
	few, many := allocations(100), allocations(20_000)
	segments := float64(Suite16K.Segments(int64(len(manyFiles(t, 20_000)))))
	if many > few+segments {
		t.Errorf("opening allocates %.0f times with 20,000 files and %.0f with 100, want at most one a segment more, and there are %.0f", many, few, segments)
	}
}

// Finding a file, and all that a listing shows of it, allocates nothing.
func TestLookupAllocatesNothing(t *testing.T) {
	m, err := OpenManifest(manyFiles(t, 1000), testDEK(), nil)
	if err != nil {
		t.Fatal(err)
	}
	dir, name := []byte("dir-0000103"), []byte("file-0000150")
	if n := testing.AllocsPerRun(100, func() {
		parent, ok := m.Lookup(RootInode, dir)
		inode, found := m.Lookup(parent, name)
		a, used := m.Attr(inode)
		first, end := m.Entries(parent)
		entry, _ := m.Entry(end - 1)
		if !ok || !found || !used || a.Size != 1000 || end-first != 100 || len(entry) != len(name) {
			t.Fatalf("found %d in %d of %d entries, %v", inode, parent, end-first, a)
		}
	}); n != 0 {
		t.Errorf("a lookup allocates %.0f times", n)
	}
}
