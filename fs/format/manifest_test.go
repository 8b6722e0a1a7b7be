package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
)

var testVolume = VolumeID{1, 2, 3}

func testDEK() *DEK {
	root, _ := RootSecretFromBytes(bytes.Repeat([]byte{7}, 32))
	return root.DeriveDEK(testVolume, 1)
}

// sample returns a Builder with one of everything: three files (one empty, one
// with a hole, one with two names), a subdirectory, a symlink, a fifo, a
// device, extended attributes, an unused inode number.
func sample() *Builder {
	b := new(Builder)
	key := b.AddKey(Key{Key: NewObjectKey(), Origin: testVolume, Slot: 0, Suite: Suite16K})
	object := b.AddObject(Object{ID: ObjectID{9}, Header: Header{headerSize}, SealedLen: Suite16K.SealedLen(5000), Key: key})
	b.AddNode(1, Node{Attr: Attr{Mode: ModeDir | 0o755}})
	b.AddNode(2, Node{Attr: Attr{Mode: ModeFile | 0o644, Size: 3000, Mtime: Time{-5, 999}},
		Extents: []Extent{{0, object, 100, 1000}, {2000, object, 1100, 500}},
		Xattrs:  []Xattr{{"user.b", []byte("2")}, {"user.a", nil}}})
	b.AddNode(3, Node{Attr: Attr{Mode: ModeFile | 0o600}})
	b.AddNode(5, Node{Attr: Attr{Mode: ModeDir | 0o700}})
	b.AddNode(6, Node{Attr: Attr{Mode: ModeSymlink | 0o777}, Target: []byte("../a")})
	b.AddNode(7, Node{Attr: Attr{Mode: ModeFifo | 0o600}})
	b.AddNode(8, Node{Attr: Attr{Mode: ModeChar | 0o600, Rdev: 0x103}})
	b.Link(1, []byte("sub"), 5)
	b.Link(1, []byte("a"), 2)
	b.Link(5, []byte("a-again"), 2)
	b.Link(1, []byte("empty"), 3)
	b.Link(5, []byte("link"), 6)
	b.Link(5, []byte("pipe\xff"), 7)
	b.Link(5, []byte("null"), 8)
	return b
}

func mustFinish(t testing.TB, b *Builder) []byte {
	t.Helper()
	plain, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func sealSample(t testing.TB) ([]byte, Reference) {
	t.Helper()
	return SealManifest(testDEK(), Preamble{Suite: Suite16K, KeyVersion: 1, Volume: testVolume, Epoch: 1}, mustFinish(t, sample()))
}

func TestManifestRoundTrip(t *testing.T) {
	sealed, ref := sealSample(t)
	m, err := OpenManifest(sealed, testDEK(), &ref)
	if err != nil {
		t.Fatal(err)
	}
	if m.Reference() != ref {
		t.Errorf("Reference = %v, want %v", m.Reference(), ref)
	}
	root, _ := m.Attr(RootInode)
	if root.Nlink != 3 {
		t.Errorf("root has %d links, want 3", root.Nlink)
	}
	ino, ok := m.Lookup(RootInode, []byte("a"))
	if !ok || ino != 2 {
		t.Fatalf("Lookup(a) = %d, %v", ino, ok)
	}
	a, _ := m.Attr(ino)
	if a.Nlink != 2 || a.Size != 3000 || a.Mtime != (Time{-5, 999}) {
		t.Errorf("Attr(a) = %+v", a)
	}
	want := []Extent{{0, 0, 100, 1000}, {2000, 0, 1100, 500}}
	for _, tc := range []struct {
		off   uint64
		first int
	}{{0, 0}, {999, 0}, {1000, 1}, {2499, 1}, {2500, 2}} {
		if got := slices.Collect(m.Extents(ino, tc.off)); !slices.Equal(got, want[tc.first:]) {
			t.Errorf("Extents from %d = %v, want %v", tc.off, got, want[tc.first:])
		}
	}
	if x := m.Xattrs(ino); len(x) != 2 || x[0].Name != "user.a" || string(x[1].Value) != "2" {
		t.Errorf("Xattrs = %v", x)
	}
	if _, ok := m.Attr(4); ok {
		t.Error("inode 4 is in use")
	}
	var names []string
	first, end := m.Entries(5)
	for i := first; i < end; i++ {
		name, _ := m.Entry(i)
		names = append(names, string(name))
	}
	if !slices.Equal(names, []string{"a-again", "link", "null", "pipe\xff"}) {
		t.Errorf("entries of sub = %q", names)
	}
	if string(m.Target(6)) != "../a" || m.Parent(5) != RootInode {
		t.Errorf("Target = %q, Parent = %d", m.Target(6), m.Parent(5))
	}
	if dev, _ := m.Attr(8); dev.Rdev != 0x103 {
		t.Errorf("rdev = %x", dev.Rdev)
	}
	for _, name := range []string{"", "b", "zzz", "su", "subx"} {
		if _, ok := m.Lookup(RootInode, []byte(name)); ok {
			t.Errorf("Lookup(%q) found something", name)
		}
	}
}

func TestOpenManifestRefuses(t *testing.T) {
	sealed, ref := sealSample(t)
	other, otherRef := sealSample(t)
	_ = other
	wrong := NewRootSecret().DeriveDEK(testVolume, 1)
	older := ref
	older.Epoch++
	for _, tc := range []struct {
		name string
		ref  *Reference
		dek  *DEK
		is   error
	}{
		{"another manifest's reference", &otherRef, testDEK(), ErrReference},
		{"a reference of another epoch", &older, testDEK(), ErrReference},
		{"a wrong key", &ref, wrong, ErrWrongKey},
	} {
		if _, err := OpenManifest(bytes.Clone(sealed), tc.dek, tc.ref); !errors.Is(err, tc.is) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.is)
		}
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := OpenManifest(changed, testDEK(), nil); err == nil {
			t.Fatalf("byte %d changed, and the manifest opens", i)
		}
	}
	for _, n := range []int{0, 1, preambleSize, preambleSize + headerSize, len(sealed) - 1} {
		if _, err := OpenManifest(bytes.Clone(sealed[:n]), testDEK(), nil); err == nil {
			t.Errorf("cut to %d bytes, and the manifest opens", n)
		}
	}
}

// TestHostileManifest changes a well-formed manifest in ways that a party who
// holds the key could, and wants each refused with its reason.
func TestHostileManifest(t *testing.T) {
	le := binary.LittleEndian
	inode := func(m *Manifest, n int) []byte { return m.inodes[(n-1)*inodeSize:] }
	for _, tc := range []struct {
		name   string
		change func(m *Manifest)
		want   string
	}{
		{"root is a file", func(m *Manifest) { le.PutUint32(inode(m, 1), ModeFile) }, "root directory"},
		{"root has a parent", func(m *Manifest) { le.PutUint32(inode(m, 1)[56:], 5) }, "root directory"},
		{"entry names the root", func(m *Manifest) { le.PutUint32(m.entries, 1) }, "names inode 1"},
		{"entry names an unused inode", func(m *Manifest) { le.PutUint32(m.entries, 4) }, "names inode 4"},
		{"entry names no inode", func(m *Manifest) { le.PutUint32(m.entries, 1<<31) }, "names inode"},
		{"name outside the names", func(m *Manifest) { le.PutUint32(m.entries[4:], 1<<32-1) }, "outside the names"},
		{"name with a slash", func(m *Manifest) { m.names[le.Uint32(m.entries[4:])] = '/' }, "named"},
		{"names not ascending", func(m *Manifest) { m.names[le.Uint32(m.entries[4:])] = 'z' }, "ascending"},
		{"entries run too long", func(m *Manifest) { le.PutUint32(inode(m, 5)[52:], 100) }, "entries at"},
		{"a directory its own ancestor", func(m *Manifest) {
			le.PutUint32(inode(m, 5)[56:], 5)
		}, "parent"},
		{"link count", func(m *Manifest) { le.PutUint32(inode(m, 2)[12:], 1) }, "link count"},
		{"extent beyond the file", func(m *Manifest) { le.PutUint64(m.extents, 2600) }, "extent at"},
		{"extent offset wraps", func(m *Manifest) { le.PutUint64(m.extents, 1<<64-1) }, "extent at"},
		{"extents overlap", func(m *Manifest) { le.PutUint64(m.extents[extentSize:], 10) }, "extent at"},
		{"extent beyond the object", func(m *Manifest) { le.PutUint32(m.extents[12:], 1<<32-1) }, "beyond object"},
		{"extent in no object", func(m *Manifest) { le.PutUint32(m.extents[8:], 1) }, "in object 1"},
		{"object of impossible length", func(m *Manifest) { le.PutUint64(m.objects[56:], 41) }, "41 bytes long"},
		{"object of negative length", func(m *Manifest) { le.PutUint64(m.objects[56:], 1<<63) }, "bytes long"},
		{"object without a key", func(m *Manifest) { le.PutUint32(m.objects[64:], 7) }, "key 7"},
		{"object in no place", func(m *Manifest) { le.PutUint32(m.objects[68:], 1) }, "place 1"},
		{"unknown suite", func(m *Manifest) { m.keys[52] = 9 }, "suite 9"},
		{"unknown type", func(m *Manifest) { le.PutUint32(inode(m, 7), 0o150000) }, "mode 150000"},
		{"mode beyond permissions", func(m *Manifest) { le.PutUint32(inode(m, 7), ModeFifo|1<<20) }, "mode"},
		{"nanoseconds", func(m *Manifest) { le.PutUint32(inode(m, 7)[32:], 1e9) }, "time out of range"},
		{"fifo with a size", func(m *Manifest) { le.PutUint64(inode(m, 7)[16:], 1) }, "contents"},
		{"target outside the names", func(m *Manifest) { le.PutUint32(inode(m, 6)[48:], 1<<32-1) }, "target"},
		{"attributes outside", func(m *Manifest) { le.PutUint32(inode(m, 6)[60:], 1<<31) }, "extended attributes at"},
		{"attribute too long", func(m *Manifest) { le.PutUint32(m.xattrs[3:], 1<<31) }, "length is wrong"},
	} {
		plain := mustFinish(t, sample())
		m := new(Manifest)
		if err := m.parse(plain); err != nil {
			t.Fatal(err)
		}
		tc.change(m)
		sealed, ref := SealManifest(testDEK(), Preamble{Suite: Suite16K, KeyVersion: 1, Volume: testVolume, Epoch: 1}, plain)
		_, err := OpenManifest(sealed, testDEK(), &ref)
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestHostileSections(t *testing.T) {
	le := binary.LittleEndian
	table := func(plain []byte, i int) []byte { return plain[8+i*sectionEntrySize:] }
	for _, tc := range []struct {
		name   string
		change func(plain []byte)
		want   string
	}{
		{"too many sections", func(p []byte) { le.PutUint32(p, 65) }, "65 entries"},
		{"section outside", func(p []byte) { le.PutUint64(table(p, 5)[16:], 1<<40) }, "lies at"},
		{"sections overlap", func(p []byte) { le.PutUint64(table(p, 1)[8:], le.Uint64(table(p, 0)[8:])) }, "lies at"},
		{"section twice", func(p []byte) { le.PutUint16(table(p, 6), sectionNames) }, "twice"},
		{"section missing", func(p []byte) { le.PutUint16(table(p, 5), 500); le.PutUint16(table(p, 5)[2:], 0) }, "missing"},
		{"unknown critical section", func(p []byte) { le.PutUint16(table(p, 6), 500) }, "critical"},
	} {
		plain := mustFinish(t, sample())
		tc.change(plain)
		if err := new(Manifest).parse(plain); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	plain := mustFinish(t, sample())
	le.PutUint16(table(plain, 6), 500) // the attributes become an unknown section
	le.PutUint16(table(plain, 6)[2:], 0)
	if err := new(Manifest).parse(plain); err != nil {
		t.Errorf("an unknown section that is not critical: %v", err)
	}
}

func TestDirectoryCycleAndDepth(t *testing.T) {
	b := new(Builder)
	for i := uint32(1); i <= MaxDepth+1; i++ {
		b.AddNode(i, Node{Attr: Attr{Mode: ModeDir}})
		if i > 1 {
			b.Link(i-1, []byte("d"), i)
		}
	}
	if _, err := b.Finish(); err == nil || !strings.Contains(err.Error(), "deeper") {
		t.Errorf("a tree one too deep: %v", err)
	}
	b = new(Builder)
	for i := uint32(1); i <= 3; i++ {
		b.AddNode(i, Node{Attr: Attr{Mode: ModeDir}})
	}
	b.Link(2, []byte("x"), 3)
	b.Link(3, []byte("x"), 2)
	if _, err := b.Finish(); err == nil || !strings.Contains(err.Error(), "ancestor") {
		t.Errorf("a cycle beside the tree: %v", err)
	}
}

func TestBuilderRefuses(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "a\x00", strings.Repeat("n", 256), strings.Repeat("n", 300)} {
		b := new(Builder)
		b.AddNode(1, Node{Attr: Attr{Mode: ModeDir}})
		b.AddNode(2, Node{Attr: Attr{Mode: ModeFifo}})
		b.Link(1, []byte(name), 2)
		if _, err := b.Finish(); !errors.Is(err, ErrMalformed) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	b := sample()
	b.Link(1, []byte("a"), 3)
	if _, err := b.Finish(); !errors.Is(err, ErrMalformed) {
		t.Errorf("a name twice: %v", err)
	}
}

func TestPlaces(t *testing.T) {
	b := new(Builder)
	key := b.AddKey(Key{Key: NewObjectKey(), Origin: testVolume, Suite: Suite16K})
	b.AddObject(Object{ID: ObjectID{1}, Header: Header{headerSize}, SealedLen: 56, Key: key, Place: 2})
	b.AddNode(1, Node{Attr: Attr{Mode: ModeDir}})
	b.SetPlaces([]string{"0", "replica/1"})
	m := new(Manifest)
	if err := m.parse(mustFinish(t, b)); err != nil {
		t.Fatal(err)
	}
	if got, want := m.ObjectName(m.Object(0)), "replica/1/data/01000000000000000000000000000000"; got != want {
		t.Errorf("ObjectName = %s, want %s", got, want)
	}
	for _, place := range []string{"", "/x", "x/", "../x", "x/../y", ".", "a\x00"} {
		b.SetPlaces([]string{"0", place})
		if _, err := b.Finish(); !errors.Is(err, ErrMalformed) {
			t.Errorf("place %q: %v", place, err)
		}
	}
}
