package fs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"cloister/fs/format"
	"cloister/fs/store/storetest"
	"cloister/internal/vectors"
)

// vectorOps returns the operations of every record in the vectors.
func vectorOps(f *testing.F) (all [][]byte) {
	f.Helper()
	for _, v := range vectors.Load(f, "record") {
		dek, err := format.DEKFromBytes(v.Hex(f, "dek"))
		check(f, err)
		if _, _, ops, err := format.OpenRecord(bytes.Clone(v.Body), dek); err == nil {
			all = append(all, ops)
		}
	}
	return all
}

// FuzzReplay applies what a writer who holds the key could have put into a
// journal. It is refused, or folds into a manifest that opens.
func FuzzReplay(f *testing.F) {
	for _, ops := range vectorOps(f) {
		f.Add(ops, ops)
	}
	var r format.Record
	r.Inode(2, format.Node{Attr: format.Attr{Mode: format.ModeDir | 0o755}})
	r.Inode(3, format.Node{Attr: format.Attr{Mode: format.ModeFile | 0o644}})
	r.Link(1, []byte("d"), 2)
	r.Link(2, []byte("f"), 3)
	f.Add(seal(f, &r), seal(f, &r))
	f.Add(seal(f, &r), seal(f, highInode()))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		rep := &replay{tree: newTree(format.VolumeID{1}, format.Attr{Mode: 0o755})}
		if format.ReplayRecord(first, rep) != nil || format.ReplayRecord(second, rep) != nil || rep.settle() != nil {
			return
		}
		plain, err := rep.build([]byte("{}"))
		if err != nil {
			return
		}
		dek := must[*format.DEK](t)(testKey(format.Preamble{Volume: format.VolumeID{1}, KeyVersion: 1}))
		sealed, ref := format.SealManifest(dek, format.Preamble{Suite: format.Suite16K, KeyVersion: 1, Volume: format.VolumeID{1}, Epoch: 1}, plain)
		m, err := format.OpenManifest(sealed, dek, &ref)
		if err != nil {
			t.Fatalf("what is folded does not open: %v", err)
		}
		if again := loadTree(m); len(again.nodes) != len(rep.nodes) {
			t.Fatalf("%d inodes are folded, %d are read", len(rep.nodes), len(again.nodes))
		}
	})
}

// highInode is a record whose file has the highest number there is.
func highInode() *format.Record {
	r := new(format.Record)
	r.Inode(format.MaxInodes, format.Node{Attr: format.Attr{Mode: format.ModeFile | 0o644}})
	r.Link(1, []byte("high"), format.MaxInodes)
	return r
}

// seal returns the operations of a record as they are read back.
func seal(f *testing.F, r *format.Record) []byte {
	f.Helper()
	dek, err := testKey(format.Preamble{Volume: format.VolumeID{1}, KeyVersion: 1})
	check(f, err)
	sealed, _ := format.SealRecord(dek, format.Preamble{Suite: format.Suite16K, KeyVersion: 1, Volume: format.VolumeID{1}, Epoch: 1, Sequence: 1}, r)
	_, _, ops, err := format.OpenRecord(sealed, dek)
	check(f, err)
	return ops
}

// FuzzHostileVolume serves a manifest that a stranger sealed, with one data
// object that is there: every name, attribute and extent is asked for.
func FuzzHostileVolume(f *testing.F) {
	object := hostileObject(f)
	f.Add(hostilePlain(f, &object))
	f.Fuzz(func(t *testing.T, plain []byte) {
		if v := openHostile(t, &object, plain); v != nil {
			serveAll(v)
			v.Close()
		}
	})
}

// hostileLen is the length of hostileObject's plaintext, as its vector says.
const hostileLen = 16_329

func hostileObject(t testing.TB) vectors.Vector {
	t.Helper()
	for _, v := range vectors.Load(t, "data") {
		if v.Name == "suite1-second-segment-of-one-byte" {
			return v
		}
	}
	t.Fatal("the vector of the object is gone")
	return vectors.Vector{}
}

// openHostile seals plain as a volume beside the object, and opens it; nil
// where it is refused.
func openHostile(t testing.TB, object *vectors.Vector, plain []byte) *Volume {
	t.Helper()
	var store storetest.Memory
	id := format.VolumeID{1}
	dek := must[*format.DEK](t)(testKey(format.Preamble{Volume: id, KeyVersion: 1}))
	sealed, _ := format.SealManifest(dek, format.Preamble{Suite: format.Suite16K, KeyVersion: 1, Volume: id, Epoch: 1}, plain)
	check(t, store.Put(ctx, format.ManifestName(1), sealed))
	check(t, store.Put(ctx, format.DataPrefix+object.Get("object"), object.Body))
	v, err := Open(ctx, &store, testKey, Options{})
	if err != nil {
		return nil
	}
	return v
}

// serveAll reads the beginning, the middle and the end of every file.
func serveAll(v *Volume) {
	m, buf := v.Manifest(), make([]byte, 70_000)
	for inode := uint32(1); inode <= m.Inodes(); inode++ {
		a, ok := m.Attr(inode)
		if !ok || a.Type() != format.ModeFile {
			continue
		}
		file := v.Open(inode)
		for _, off := range []int64{0, int64(a.Size / 2), int64(a.Size) - int64(len(buf)), int64(a.Size) - 1, int64(a.Size)} {
			file.ReadAt(ctx, buf, off)
		}
		file.Close()
	}
}

// hostilePlain is a manifest's plaintext with one file over the vector's
// object, whose key is the vector's.
func hostilePlain(f testing.TB, v *vectors.Vector) []byte {
	f.Helper()
	b := new(format.Builder)
	key := format.Key{Key: format.NewObjectKey(), Suite: format.Suite16K, Slot: 3}
	copy(key.Origin[:], v.Hex(f, "volume"))
	b.AddKey(key)
	o := format.Object{SealedLen: int64(len(v.Body))}
	copy(o.ID[:], v.Hex(f, "object"))
	copy(o.Header[:], v.Hex(f, "header"))
	b.AddObject(o)
	b.AddNode(1, format.Node{Attr: format.Attr{Mode: format.ModeDir | 0o755}})
	b.AddNode(2, format.Node{Attr: format.Attr{Mode: format.ModeFile | 0o644, Size: 40_000}, Extents: []format.Extent{{FileOff: 5, Length: hostileLen}, {FileOff: 20_000, ObjectOff: 300, Length: 16_000}}})
	b.Link(1, []byte("f"), 2)
	plain, err := b.Finish()
	check(f, err)
	// The Builder takes a random key; the vector's goes in its place, where
	// the key table is: its first entry, which ends with origin and slot.
	at := bytes.Index(plain, v.Hex(f, "volume")) - 32
	if at < 0 {
		f.Fatal("the key table is not where it should be")
	}
	copy(plain[at:], v.Hex(f, "key"))
	return plain
}

// TestHostileSeedReads: the seed of FuzzHostileVolume is served with the bytes
// of the object, so that the fuzzer starts behind the seal.
func TestHostileSeedReads(t *testing.T) {
	object := hostileObject(t)
	v := openHostile(t, &object, hostilePlain(t, &object))
	defer v.Close()
	got := make([]byte, 40_000)
	if n, err := v.Open(2).ReadAt(ctx, got, 0); n != len(got) || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if sum := sha256.Sum256(got[5:][:hostileLen]); hex.EncodeToString(sum[:]) != object.Get("plaintext-sha256") {
		t.Error("the file has other bytes than the object")
	}
}
