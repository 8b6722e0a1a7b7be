package format

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"cloister/internal/vectors"
)

// vectorTree describes one of everything: every type of inode, a hole, a hard
// link, an inode number that is not in use, extended attributes, an object in
// a place, provenance.
func vectorTree() *Builder {
	b := new(Builder)
	key := b.AddKey(Key{Key: fixedObjectKey(), Origin: vectorVolume, Suite: Suite16K})
	b.AddKey(Key{Key: fixedObjectKey(), Origin: VolumeID(fixed(16, "origin")), Slot: 5, Suite: Suite64K})
	object := b.AddObject(Object{ID: ObjectID(fixed(16, "object 0")), Header: fixedHeader("object 0"), SealedLen: Suite16K.SealedLen(5000), Key: key})
	b.AddObject(Object{ID: ObjectID(fixed(16, "object 1")), Header: fixedHeader("object 1"), SealedLen: Suite64K.SealedLen(70000), Key: 1, Place: 1})
	when := Time{1_600_000_000, 123_456_789}
	attr := func(mode uint32) Attr { return Attr{Mode: mode, UID: 1000, GID: 100, Mtime: when, Ctime: when} }
	file := attr(ModeFile | 0o644)
	file.Size = 3000
	device := attr(ModeChar | 0o600)
	device.Rdev = 0x103
	b.AddNode(1, Node{Attr: attr(ModeDir | 0o755)})
	b.AddNode(2, Node{Attr: file, Extents: []Extent{{0, object, 100, 1000}, {2000, object, 1100, 500}},
		Xattrs: []Xattr{{"user.a", nil}, {"user.b", []byte("2")}}})
	b.AddNode(3, Node{Attr: attr(ModeFile | 0o600)})
	b.AddNode(5, Node{Attr: attr(ModeDir | 0o700)})
	b.AddNode(6, Node{Attr: attr(ModeSymlink | 0o777), Target: []byte("../a")})
	b.AddNode(7, Node{Attr: attr(ModeFifo | 0o600)})
	b.AddNode(8, Node{Attr: device})
	b.AddNode(9, Node{Attr: attr(ModeSocket | 0o600)})
	b.AddNode(10, Node{Attr: attr(ModeDir | 0o1777)})
	file.Size = 70000
	b.AddNode(11, Node{Attr: file, Extents: []Extent{{0, 1, 0, 70000}}})
	for _, l := range []struct {
		parent, inode uint32
		name          string
	}{{1, 2, "a"}, {1, 3, "empty"}, {1, 5, "sub"}, {5, 2, "a-again"}, {5, 6, "link"}, {5, 8, "null"}, {5, 7, "pipe\xff"}, {5, 9, "socket"}, {5, 10, "tmp"}, {10, 11, "placed"}} {
		b.Link(l.parent, []byte(l.name), l.inode)
	}
	b.SetProvenance([]byte(`{"writer":"a test"}`))
	b.SetPlaces([]string{"merged/1"})
	return b
}

// layout finds places in the plaintext of a manifest by FORMAT.md §6 alone.
type layout []byte

func (p layout) entry(i int) []byte { return p[8+24*i:] }

func (p layout) section(kind uint16) []byte {
	for i := range int(le.Uint32(p)) {
		if e := p.entry(i); le.Uint16(e) == kind {
			return p[le.Uint64(e[8:]):][:le.Uint64(e[16:])]
		}
	}
	panic(fmt.Sprintf("there is no section %d", kind))
}

// entryOf returns the section table's entry for a kind.
func (p layout) entryOf(kind uint16) []byte {
	for i := range int(le.Uint32(p)) {
		if le.Uint16(p.entry(i)) == kind {
			return p.entry(i)
		}
	}
	panic(fmt.Sprintf("there is no section %d", kind))
}

func (p layout) key(i int) []byte    { return p.section(1)[56*i:] }
func (p layout) object(i int) []byte { return p.section(2)[72*i:] }
func (p layout) inode(n int) []byte  { return p.section(3)[64*(n-1):] }
func (p layout) dirent(i int) []byte { return p.section(4)[12*i:] }
func (p layout) extent(i int) []byte { return p.section(6)[20*i:] }

// name returns the bytes of the name of an entry.
func (p layout) name(i int) []byte {
	e := p.dirent(i)
	return p.section(5)[le.Uint32(e[4:]):][:e[8]]
}

type breach struct {
	name, rule, says string
	change           func(p layout) []byte // nil: the plaintext as changed in place
}

func set32(b []byte, v uint32) []byte { le.PutUint32(b, v); return nil }
func set64(b []byte, v uint64) []byte { le.PutUint64(b, v); return nil }
func set16(b []byte, v uint16) []byte { le.PutUint16(b, v); return nil }
func set8(b []byte, v byte) []byte    { b[0] = v; return nil }

// sectionBreaches break the rules of the section table.
var sectionBreaches = []breach{
	{"plaintext-of-4-bytes", "§6 the plaintext begins with the number of sections", "ends before its section table", func(p layout) []byte { return p[:4] }},
	{"table-beyond-the-end", "§6 the section table lies within the plaintext", "a section table of 6 entries", func(p layout) []byte { set32(p, 6); return p[:8] }},
	{"65-sections", "§1 at most 64 sections", "65 entries", func(p layout) []byte { set32(p, 65); return append(p, make([]byte, 4096)...) }},
	{"reserved-word", "§6 the word after the number is zero", "a section table", func(p layout) []byte { return set32(p[4:], 1) }},
	{"section-reserved-word", "§6 reserved words of a section entry are zero", "lies at", func(p layout) []byte { return set32(p.entry(1)[4:], 1) }},
	{"section-reserved-flag", "§6 only flag bit 0 is used", "lies at", func(p layout) []byte { return set16(p.entry(1)[2:], 3) }},
	{"section-not-on-8", "§6 sections start on multiples of 8", "lies at", func(p layout) []byte {
		set64(p.entryOf(8)[16:], 1)
		return set64(p.entryOf(8)[8:], le.Uint64(p.entryOf(8)[8:])+1)
	}},
	{"sections-overlap", "§6 sections do not overlap", "lies at", func(p layout) []byte { return set64(p.entry(1)[8:], le.Uint64(p.entry(0)[8:])) }},
	{"sections-out-of-order", "§6 sections lie in the order of the table", "lies at", func(p layout) []byte {
		a, b := bytes.Clone(p.entry(0)[:24]), bytes.Clone(p.entry(1)[:24])
		copy(p.entry(0), b)
		copy(p.entry(1), a)
		return nil
	}},
	{"section-in-the-table", "§6 sections lie behind the table", "lies at 0+", func(p layout) []byte { return set64(p.entry(0)[8:], 0) }},
	{"section-beyond-the-end", "§6 sections lie within the plaintext", "lies at", func(p layout) []byte { return set64(p.entryOf(9)[16:], 1<<40) }},
	{"section-length-wraps", "§6 offset and length do not wrap", "lies at", func(p layout) []byte { return set64(p.entryOf(9)[16:], 1<<64-8) }},
	{"section-twice", "§6 a section type occurs once", "section type 5 occurs twice", func(p layout) []byte { return set16(p.entryOf(7), 5) }},
	{"section-unknown-critical", "§6 an unknown critical section is refused", "section type 77 is critical", func(p layout) []byte { return set16(p.entryOf(7), 77) }},
	{"section-missing", "§6 sections 1 to 6 are required", "section type 6 is missing", func(p layout) []byte { set16(p.entryOf(6)[2:], 0); return set16(p.entryOf(6), 77) }},
	{"padding-not-zeros", "§4 padding is zeros", "padding is not zeros", func(p layout) []byte { return append(p, 0, 0, 1) }},
	{"table-of-broken-entries", "§6 a section holds whole entries", "section type 6 is", func(p layout) []byte { return set64(p.entryOf(6)[16:], 59) }},
}

// tableBreaches break the rules of keys, objects and inodes.
var tableBreaches = []breach{
	{"key-reserved", "§6 key: 3 zero bytes", "key 1", func(p layout) []byte { return set8(p.key(1)[55:], 1) }},
	{"key-suite", "§6 key: a suite of §4", "key 0 is of suite 9", func(p layout) []byte { return set8(p.key(0)[52:], 9) }},
	{"object-key", "§6 object: its key is in the table", "object 0 has key 2", func(p layout) []byte { return set32(p.object(0)[64:], 2) }},
	{"object-place", "§6 object: its place is in section 9", "object 0 has key 0 and place 2", func(p layout) []byte { return set32(p.object(0)[68:], 2) }},
	{"object-length-impossible", "§4 sealed lengths", "object 0 cannot be 41 bytes long", func(p layout) []byte { return set64(p.object(0)[56:], 41) }},
	{"object-length-negative", "§4 sealed lengths", "object 0 cannot be", func(p layout) []byte { return set64(p.object(0)[56:], 1<<63) }},
	{"object-beyond-1-gib", "§1 a sealed data object has at most 1 GiB", "object 0 cannot be 1073758208 bytes long", func(p layout) []byte { return set64(p.object(0)[56:], 1<<30+16<<10) }},
	{"object-header", "§4 a header begins with 40", "object 0", func(p layout) []byte { return set8(p.object(0)[16:], 41) }},

	{"no-inodes", "§6 inode 1 is the root", "inode 1 is not a root directory", func(p layout) []byte { return set64(p.entryOf(3)[16:], 0) }},
	{"root-is-a-file", "§6 the root is a directory", "inode 1 is not a root directory", func(p layout) []byte { return set32(p.inode(1), ModeFile|0o644) }},
	{"root-has-a-parent", "§6 the root's parent is itself", "inode 1 is not a root directory", func(p layout) []byte { return set32(p.inode(1)[56:], 5) }},
	{"unused-inode-not-zero", "§6 all of an unused entry is zero", "inode 4 has mode 0", func(p layout) []byte { return set32(p.inode(4)[4:], 1) }},
	{"unknown-type", "§6 POSIX types", "inode 7 has mode 150600", func(p layout) []byte { return set32(p.inode(7), 0o150600) }},
	{"mode-bits", "§6 mode: type and permission bits", "inode 7 has mode", func(p layout) []byte { return set32(p.inode(7), ModeFifo|1<<20) }},
	{"mtime-nanoseconds", "§6 nanoseconds below 10^9", "inode 3 has mode 100600 or a time out of range", func(p layout) []byte { return set32(p.inode(3)[32:], 1e9) }},
	{"ctime-nanoseconds", "§6 nanoseconds below 10^9", "time out of range", func(p layout) []byte { return set32(p.inode(3)[44:], 1e9) }},
	{"links-of-a-file", "§6 link count: entries that name it", "inode 2 is named 2 times, its link count is 1", func(p layout) []byte { return set32(p.inode(2)[12:], 1) }},
	{"links-of-a-directory", "§6 link count: 2 and the subdirectories", "inode 1 is named 3 times, its link count is 2", func(p layout) []byte { return set32(p.inode(1)[12:], 2) }},
	{"file-size", "§1 a file has at most 2^63-1 bytes", "file 3", func(p layout) []byte { return set64(p.inode(3)[16:], 1<<63) }},
	{"file-with-a-device-number", "§6 inode: 0 where it says nothing", "file 3", func(p layout) []byte { return set32(p.inode(3)[56:], 1) }},
	{"directory-with-a-size", "§6 size: 0 but of files and symlinks", "directory 5", func(p layout) []byte { return set64(p.inode(5)[16:], 4096) }},
	{"fifo-with-a-size", "§6 size: 0 but of files and symlinks", "inode 7 of mode 10600 has contents", func(p layout) []byte { return set64(p.inode(7)[16:], 1) }},
	{"fifo-with-a-run", "§6 first and count: else 0", "inode 7 of mode 10600 has contents", func(p layout) []byte { return set32(p.inode(7)[48:], 1) }},
	{"socket-with-a-device-number", "§6 rdev: of devices only", "inode 9 of mode 140600 has contents", func(p layout) []byte { return set32(p.inode(9)[56:], 1) }},
	{"target-empty", "§1 a target has 1 to 4,095 bytes", "symlink 6", func(p layout) []byte { set64(p.inode(6)[16:], 0); return set32(p.inode(6)[52:], 0) }},
	{"target-of-4096-bytes", "§1 a target has 1 to 4,095 bytes", "symlink 6", func(p layout) []byte { set64(p.inode(6)[16:], 4096); return set32(p.inode(6)[52:], 4096) }},
	{"target-size", "§6 size: the length of a symlink's target", "symlink 6", func(p layout) []byte { return set64(p.inode(6)[16:], 3) }},
	{"target-outside", "§6 targets lie in the names", "symlink 6 has its target at 4294967295+4", func(p layout) []byte { return set32(p.inode(6)[48:], 1<<32-1) }},
	{"target-with-nul", "§1 targets are paths", "symlink 6", func(p layout) []byte { return set8(p.section(5)[le.Uint32(p.inode(6)[48:]):], 0) }},
}

// treeBreaches break the rules of entries, extents and the rest.
var treeBreaches = []breach{
	{"entries-beyond-the-table", "§6 runs of entries lie in the table", "directory 10 has its entries at 9+100", func(p layout) []byte { return set32(p.inode(10)[52:], 100) }},
	{"entries-overlap", "§6 runs of entries follow one another", "directory 5 has its entries at 2+6", func(p layout) []byte { return set32(p.inode(5)[48:], 2) }},
	{"entries-left-over", "§6 runs of entries cover the table", "the inodes use 9 entries and 3 extents of 10 and 3", func(p layout) []byte { return set32(p.inode(10)[52:], 0) }},
	{"entry-reserved", "§6 entry: 3 zero bytes", "an entry of directory 1", func(p layout) []byte { return set8(p.dirent(0)[9:], 1) }},
	{"entry-name-outside", "§6 names lie in the names", "an entry of directory 1 has its name outside", func(p layout) []byte { return set32(p.dirent(0)[4:], 1<<32-1) }},
	{"entry-name-empty", "§1 a name has 1 to 255 bytes", "directory 1 has an entry named \"\"", func(p layout) []byte { return set8(p.dirent(0)[8:], 0) }},
	{"entry-name-slash", "§1 names have no /", `directory 1 has an entry named "/"`, func(p layout) []byte { return set8(p.name(0), '/') }},
	{"entry-name-nul", "§1 names have no NUL", `directory 1 has an entry named "\x00"`, func(p layout) []byte { return set8(p.name(0), 0) }},
	{"entry-name-dot", "§1 no entry is named .", `directory 1 has an entry named "."`, func(p layout) []byte { return set8(p.name(0), '.') }},
	{"entry-name-dot-dot", "§1 no entry is named ..", `directory 1 has an entry named ".."`, func(p layout) []byte {
		set8(p.dirent(0)[8:], 2)
		return set32(p.dirent(0)[4:], le.Uint32(p.inode(6)[48:])) // the symlink's target begins with it
	}},
	{"entries-not-ascending", "§6 entries ascend by name", "the entries of directory 1 are not ascending", func(p layout) []byte { return set8(p.name(0), 'z') }},
	{"entry-twice", "§6 entries strictly ascend", "the entries of directory 1 are not ascending", func(p layout) []byte { copy(p.dirent(1)[4:12], p.dirent(0)[4:12]); return nil }},
	{"entry-of-an-unused-inode", "§6 entries name inodes in use", `entry "empty" of directory 1 names inode 4`, func(p layout) []byte { return set32(p.dirent(1), 4) }},
	{"entry-of-no-inode", "§6 entries name inodes in the table", `entry "empty" of directory 1 names inode 0`, func(p layout) []byte { return set32(p.dirent(1), 0) }},
	{"entry-beyond-the-inodes", "§6 entries name inodes in the table", `entry "empty" of directory 1 names inode 12`, func(p layout) []byte { return set32(p.dirent(1), 12) }},
	{"entry-of-the-root", "§6 no entry names the root", `entry "empty" of directory 1 names inode 1`, func(p layout) []byte { return set32(p.dirent(1), 1) }},
	{"directory-twice", "§6 one entry names a directory", "directory 10 is named in 5", func(p layout) []byte { return set32(p.dirent(4), 10) }},
	{"directory-of-another-parent", "§6 a directory is named in its parent", "directory 10 is named in 5, its parent is 1", func(p layout) []byte { return set32(p.inode(10)[56:], 1) }},
	{"directory-unnamed", "§6 one entry names a directory", "inode 10 is named 2 times", func(p layout) []byte {
		set32(p.inode(5)[12:], 2)
		set32(p.inode(9)[12:], 2)
		return set32(p.dirent(8), 9)
	}},
	{"inode-unnamed", "§6 an inode in use is named", "inode 3 is named 0 times, its link count is 1", func(p layout) []byte { set32(p.inode(2)[12:], 3); return set32(p.dirent(1), 2) }},
	{"directory-its-own-ancestor", "§6 no directory is its own ancestor", "or its own ancestor", func(p layout) []byte {
		// 10 is taken out of 5 and put into itself: all counts stay right.
		set32(p.dirent(8), 11) // sub/tmp is the file
		set32(p.dirent(9), 10) // and the file's place in 10 is 10
		set32(p.inode(10)[56:], 10)
		set32(p.inode(10)[12:], 3)
		return set32(p.inode(5)[12:], 2)
	}},

	{"extents-beyond-the-table", "§6 runs of extents lie in the table", "file 11 has its extents at 2+9", func(p layout) []byte { return set32(p.inode(11)[52:], 9) }},
	{"extents-shared", "§6 runs of extents follow one another", "file 11 has its extents at 1+1", func(p layout) []byte { return set32(p.inode(11)[48:], 1) }},
	{"extents-left-over", "§6 runs of extents cover the table", "the inodes use 10 entries and 2 extents of 10 and 3", func(p layout) []byte { return set32(p.inode(11)[52:], 0) }},
	{"extent-empty", "§6 no extent is empty", "file 2 has an extent at 0+0", func(p layout) []byte { return set32(p.extent(0)[16:], 0) }},
	{"extents-overlap", "§6 extents do not overlap", "file 2 has an extent at 999+500", func(p layout) []byte { return set64(p.extent(1), 999) }},
	{"extents-descend", "§6 extents ascend", "file 2 has an extent at 0+500", func(p layout) []byte { set64(p.extent(0), 2000); return set64(p.extent(1), 0) }},
	{"extent-beyond-the-file", "§6 extents end at or before the size", "file 2 has an extent at 2501+500", func(p layout) []byte { return set64(p.extent(1), 2501) }},
	{"extent-offset-wraps", "§6 extents end at or before the size", "file 2 has an extent at 18446744073709551615+500", func(p layout) []byte { return set64(p.extent(1), 1<<64-1) }},
	{"extent-of-no-object", "§6 extents name objects in the table", "in object 2", func(p layout) []byte { return set32(p.extent(0)[8:], 2) }},
	{"extent-beyond-the-object", "§6 extents lie in the object's plaintext", "file 2 has an extent beyond object 0", func(p layout) []byte { return set32(p.extent(1)[12:], 4501) }},
	{"extent-object-offset-wraps", "§6 extents lie in the object's plaintext", "file 2 has an extent beyond object 0", func(p layout) []byte { return set32(p.extent(1)[12:], 1<<32-1) }},

	{"attributes-outside", "§6 attributes lie in section 7", "inode 3 has its extended attributes at 4096", func(p layout) []byte { return set32(p.inode(3)[60:], 4096) }},
	{"attributes-end-early", "§6 attributes lie in section 7", "extended attributes end early", func(p layout) []byte { return set16(p.section(7), 3) }},
	{"attribute-name-empty", "§6 a name has 1 to 255 bytes", "an extended attribute's length is wrong", func(p layout) []byte { return set8(p.section(7)[2:], 0) }},
	{"attribute-value-of-64-kib-and-1", "§1 a value has at most 64 KiB", "an extended attribute's length is wrong", func(p layout) []byte { return set32(p.section(7)[3:], 64<<10+1) }},
	{"attribute-name-with-nul", "§6 a name has no NUL", "has a NUL in its name", func(p layout) []byte { return set8(p.section(7)[2+5:], 0) }},
	{"attributes-not-ascending", "§6 attributes ascend by name", "extended attributes are not ascending", func(p layout) []byte { return set8(p.section(7)[2+5+5:], 'c') }},

	{"provenance-not-json", "§6 provenance is JSON", "the provenance is not JSON", func(p layout) []byte { return set8(p.section(8), '[') }},
	{"provenance-not-an-object", "§6 provenance is a JSON object", "the provenance is not a JSON object", func(p layout) []byte { copy(p.section(8), `["writer","a test"]`); return nil }},

	{"places-end-early", "§6 places", "the places end early", func(p layout) []byte { return set16(p.section(9), 2) }},
	{"places-go-on", "§6 places", "the places are followed by 10 bytes", func(p layout) []byte { return set16(p.section(9), 0) }},
	{"place-absolute", "§6 a place is a relative path", `place "/erged/1" is not a relative path`, func(p layout) []byte { return set8(p.section(9)[4:], '/') }},
	{"place-empty-segment", "§6 no segment of a place is empty", "is not a relative path", func(p layout) []byte { copy(p.section(9)[4:], "merge//1"); return nil }},
	{"place-dot-dot", "§6 no segment of a place is ..", "is not a relative path", func(p layout) []byte { copy(p.section(9)[4:], "merge/.."); return nil }},
	{"place-dot", "§6 no segment of a place is .", "is not a relative path", func(p layout) []byte { copy(p.section(9)[4:], "merged/."); return nil }},
}

func vectorPreamble() Preamble {
	return Preamble{Suite: Suite16K, Kind: KindManifest, KeyVersion: 2, Volume: vectorVolume, Run: vectorRun, Epoch: 7, Previous: Digest(fixed(32, "previous"))}
}

func manifestVector(v vectors.Vector, p Preamble, plain []byte) vectors.Vector {
	v.Set("dek", "%x", vectorDEK().b)
	v.Body, _ = p.seal(vectorDEK(), fixedHeader(v.Name), plain)
	return v
}

func manifestVectors(t *testing.T) (all []vectors.Vector) {
	for _, s := range suites {
		p := vectorPreamble()
		p.Suite = s
		v := manifestVector(accepted(fmt.Sprintf("one-of-everything-suite%d", s), "§6 all of it"), p, mustFinish(t, vectorTree()))
		for _, line := range vectorTreeLines {
			v.Set("tree", "%s", line)
		}
		all = append(all, v)
	}
	plain := layout(mustFinish(t, vectorTree()))
	set16(plain.entryOf(8), 500)
	all = append(all, manifestVector(accepted("section-unknown", "§6 an unknown section that is not critical is skipped"), vectorPreamble(), plain))
	for _, breaches := range [][]breach{sectionBreaches, tableBreaches, treeBreaches} {
		for _, b := range breaches {
			plain := layout(mustFinish(t, vectorTree()))
			if changed := b.change(plain); changed != nil {
				plain = changed
			}
			all = append(all, manifestVector(refused(b.name, b.rule, "malformed", b.says), vectorPreamble(), plain))
		}
	}
	return append(all, sealedManifestVectors(t)...)
}

// sealedManifestVectors are about what surrounds the plaintext: preamble,
// stream, key, reference.
func sealedManifestVectors(t *testing.T) (all []vectors.Vector) {
	good := func(v vectors.Vector) vectors.Vector {
		return manifestVector(v, vectorPreamble(), mustFinish(t, vectorTree()))
	}
	referenceOf := func(body []byte, change func(*Reference)) string {
		r := Reference{Volume: vectorVolume, Epoch: 7, KeyVersion: 2, Manifest: sha256.Sum256(body), Check: vectorDEK().Check(vectorVolume)}
		change(&r)
		return r.String()
	}
	v := good(accepted("the-one-a-reference-names", "§8 step 1"))
	all = append(all, *v.Set("reference", "%s", referenceOf(v.Body, func(*Reference) {})))
	for _, c := range []struct {
		name, says string
		change     func(*Reference)
	}{
		{"volume", "the manifest says it is", func(r *Reference) { r.Volume[0]++ }},
		{"epoch", "the manifest says it is", func(r *Reference) { r.Epoch++ }},
		{"key-version", "the manifest says it is", func(r *Reference) { r.KeyVersion++ }},
		{"digest", "the manifest's digest is", func(r *Reference) { r.Manifest[0]++ }},
		{"check-value", "the manifest says it is", func(r *Reference) { r.Check[0]++ }},
	} {
		v := good(refused("reference-of-another-"+c.name, "§9 a volume matches its reference in every part", "reference", c.says))
		all = append(all, *v.Set("reference", "%s", referenceOf(v.Body, c.change)))
	}
	for _, c := range []struct {
		name, rule, class, says string
		change                  func(body []byte) []byte
	}{
		{"preamble-exchanged", "§4 the stream is sealed under a digest of its preamble", "authentication", "segment 0", func(b []byte) []byte { b[40]++; return b }},
		{"bit-flipped", "§8 the stream opens", "authentication", "segment 0", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }},
		{"stream-cut", "§8 the stream opens", "authentication", "segment 0", func(b []byte) []byte { return b[:len(b)-1] }},
		{"stream-ends-in-its-header", "§4 a stream begins with 40 bytes", "malformed", "ends within its header", func(b []byte) []byte { return b[:132+39] }},
		{"stream-of-an-impossible-length", "§4 sealed lengths", "malformed", "no stream is 41 bytes long", func(b []byte) []byte { return b[:132+41] }},
		{"check-value-of-another-dek", "§8 step 2: the check value comes first", "wrong-key", "not this volume's", func(b []byte) []byte { b[96]++; return b }},
		{"a-record-in-its-place", "§5 kind 2", "malformed", "a record of kind 3 is in the place of one of kind 2", func(b []byte) []byte { b[11] = 3; b[56] = 1; return b }},
	} {
		v := good(refused(c.name, c.rule, c.class, c.says))
		v.Body = c.change(v.Body)
		all = append(all, v)
	}
	return all
}

func TestManifestVectors(t *testing.T) {
	vectors.Compare(t, "manifest", manifestVectors(t))
	for _, v := range vectors.Load(t, "manifest") {
		dek, err := DEKFromBytes(v.Hex(t, "dek"))
		if err != nil {
			t.Fatal(err)
		}
		var want *Reference
		if text := v.Get("reference"); text != "" {
			ref, err := ParseReference(text)
			if err != nil {
				t.Fatal(err)
			}
			want = &ref
		}
		m, err := OpenManifest(bytes.Clone(v.Body), dek, want)
		if err == nil && v.Get("tree") != "" {
			sameLines(t, &v, "tree", describe(m))
		}
		check(t, &v, err)
	}
}

// describe says in words what a manifest holds.
func describe(m *Manifest) (lines []string) {
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for i := range m.Keys() {
		k := m.Key(uint32(i))
		say("key %d: %x of %s slot %d suite %d", i, k.Key.b[:4], k.Origin, k.Slot, k.Suite)
	}
	for i := range m.Objects() {
		o := m.Object(uint32(i))
		say("object %d: %s, %d bytes, key %d", i, m.ObjectName(o), o.SealedLen, o.Key)
	}
	for inode := uint32(1); inode <= m.Inodes(); inode++ {
		a, ok := m.Attr(inode)
		if !ok {
			say("inode %d: unused", inode)
			continue
		}
		say("inode %d: mode %o, owner %d:%d, %d links, %d bytes, rdev %x, mtime %d.%09d, ctime %d.%09d", inode, a.Mode, a.UID, a.GID, a.Nlink, a.Size, a.Rdev, a.Mtime.Sec, a.Mtime.Nsec, a.Ctime.Sec, a.Ctime.Nsec)
		for _, x := range m.Xattrs(inode) {
			say("  attribute %s = %q", x.Name, x.Value)
		}
		switch a.Type() {
		case ModeDir:
			first, end := m.Entries(inode)
			for i := first; i < end; i++ {
				name, child := m.Entry(i)
				say("  entry %q: inode %d", name, child)
			}
		case ModeFile:
			for e := range m.Extents(inode, 0) {
				say("  extent %d+%d: object %d at %d", e.FileOff, e.Length, e.Object, e.ObjectOff)
			}
		case ModeSymlink:
			say("  target %q", m.Target(inode))
		}
	}
	say("provenance %s, places %s", m.Provenance(), strings.Join(m.Places(), " "))
	return lines
}

// TestLimits are limits of §1 whose vectors would be large.
func TestLimits(t *testing.T) {
	finish := func(change func(b *Builder)) error {
		b := new(Builder)
		b.AddNode(1, Node{Attr: Attr{Mode: ModeDir}})
		change(b)
		_, err := b.Finish()
		return err
	}
	attributes := func(n int, size int) (all []Xattr) {
		for i := range n {
			all = append(all, Xattr{fmt.Sprintf("user.%03d", i), make([]byte, size)})
		}
		return all
	}
	keys := func(n int) func(b *Builder) {
		return func(b *Builder) {
			for range n {
				b.AddKey(Key{Key: fixedObjectKey(), Suite: Suite16K})
			}
		}
	}
	withAttributes := func(attrs []Xattr) func(b *Builder) {
		return func(b *Builder) {
			b.AddNode(2, Node{Attr: Attr{Mode: ModeFifo}, Xattrs: attrs})
			b.Link(1, []byte("x"), 2)
		}
	}
	for _, c := range []struct {
		name, says string
		change     func(b *Builder)
	}{
		{"65,536 keys", "", keys(MaxKeys)},
		{"65,537 keys", "section type 1", keys(MaxKeys + 1)},
		{"attributes of 1 MiB", "", withAttributes(attributes(16, 64<<10-16))},
		{"attributes beyond 1 MiB", "take", withAttributes(attributes(17, 64<<10-16))},
		{"an attribute of 64 KiB and 1 byte", "65537 bytes", withAttributes(attributes(1, 64<<10+1))},
	} {
		err := finish(c.change)
		if (err == nil) != (c.says == "") || err != nil && (!errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
}
