package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"sort"
	"strings"
)

// RootInode is the inode number of a volume's root directory.
const RootInode = 1

// POSIX file types, as in the mode of an inode: <sys/stat.h>'s, spelled out
// because the format does not change with the system it is read on.
const (
	ModeType    = 0o170000
	ModeSocket  = 0o140000
	ModeSymlink = 0o120000
	ModeFile    = 0o100000
	ModeBlock   = 0o060000
	ModeDir     = 0o040000
	ModeChar    = 0o020000
	ModeFifo    = 0o010000
)

// Time is a POSIX time: seconds since 1970 and nanoseconds below 10^9.
type Time struct {
	Sec  int64
	Nsec uint32
}

// Attr are the attributes of an inode.
type Attr struct {
	Mode  uint32 // POSIX type and permission bits
	UID   uint32
	GID   uint32
	Nlink uint32
	Size  uint64 // bytes of a file, length of a symlink's target, else 0
	Mtime Time
	Ctime Time
	Rdev  uint32 // of a device
}

// Type returns the type bits of the mode.
func (a Attr) Type() uint32 { return a.Mode & ModeType }

// Extent says where bytes of a file are: Length bytes from FileOff are those
// of object number Object from ObjectOff of its plaintext. What no extent
// covers is a hole.
type Extent struct {
	FileOff   uint64
	Object    uint32
	ObjectOff uint32
	Length    uint32
}

// End returns the offset in the file just beyond the extent.
func (e Extent) End() uint64 { return e.FileOff + uint64(e.Length) }

// Xattr is an extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Key is an entry of the key table.
type Key struct {
	Key    *ObjectKey
	Origin VolumeID
	Slot   uint32 // in the origin volume
	Suite  Suite
}

// Object is an entry of the object table: it pins the header and the length of
// a data object, so that only that one opens and its length is known before a
// byte is asked for.
type Object struct {
	ID        ObjectID
	Header    Header
	SealedLen int64
	Key       uint32 // index in the key table
	Place     uint32 // 0: this volume's prefix; n: entry n-1 of the places
}

// Sizes of the table entries in bytes, FORMAT.md §6.
const (
	keySize    = 56
	objectSize = 72
	inodeSize  = 64
	entrySize  = 12
	extentSize = 20
)

// Manifest is an opened manifest: a view of the plaintext as it lies in
// memory. Opening one allocates nothing per file. It is immutable and may be
// used from any number of goroutines. What it returns that points into it must
// not be changed, nor used when the Manifest is reachable no more: who opened it
// may have the memory given back then.
type Manifest struct {
	preamble Preamble
	digest   Digest

	keys       []byte
	objects    []byte
	inodes     []byte
	entries    []byte
	names      []byte
	extents    []byte
	xattrs     []byte
	provenance []byte
	places     []string
}

// OpenManifest opens a manifest that was read whole from the store, in the
// memory that holds it: sealed belongs to the Manifest afterwards. With a
// reference, a manifest that is not the one it names is refused before a byte
// is decrypted. Errors wrap ErrReference, ErrWrongKey, ErrAuthentication or
// ErrMalformed.
func OpenManifest(sealed []byte, dek *DEK, want *Reference) (*Manifest, error) {
	return openTree(sealed, dek, KindManifest, want)
}

// openTree opens a manifest, or a record of another kind with the same inside.
func openTree(sealed []byte, dek *DEK, kind Kind, want *Reference) (*Manifest, error) {
	m := &Manifest{digest: sha256.Sum256(sealed)}
	if want != nil && m.digest != want.Manifest {
		return nil, fmt.Errorf("%w: the manifest's digest is %s, the reference has %s", ErrReference, m.digest, want.Manifest)
	}
	p, size, err := ParsePreamble(sealed)
	if err != nil {
		return nil, err
	}
	p.Stanzas = bytes.Clone(p.Stanzas)
	if p.Kind != kind {
		return nil, malformed("a record of kind %d is in the place of one of kind %d", p.Kind, kind)
	}
	m.preamble = p
	if got := m.Reference(); want != nil && got != *want {
		return nil, fmt.Errorf("%w: the manifest says it is %s, the reference is %s", ErrReference, got, *want)
	}
	plain, err := p.open(dek, sealed[size:])
	if err != nil {
		return nil, fmt.Errorf("opening the manifest of epoch %d: %w", p.Epoch, err)
	}
	if err := m.parse(plain); err != nil {
		return nil, err
	}
	return m, m.validate()
}

// SealManifest seals what a Builder made as the manifest that preamble
// describes; it sets the preamble's kind, sequence and check value. It returns
// the sealed manifest and the reference to it.
func SealManifest(dek *DEK, p Preamble, plaintext []byte) ([]byte, Reference) {
	p.Kind, p.Sequence = KindManifest, 0
	sealed, digest := p.seal(dek, NewHeader(), plaintext)
	return sealed, Reference{Volume: p.Volume, Epoch: p.Epoch, KeyVersion: p.KeyVersion, Manifest: digest, Check: p.Check}
}

// Reference returns the volume reference of the manifest.
func (m *Manifest) Reference() Reference {
	p := &m.preamble
	return Reference{Volume: p.Volume, Epoch: p.Epoch, KeyVersion: p.KeyVersion, Manifest: m.digest, Check: p.Check}
}

// Preamble returns the clear part.
func (m *Manifest) Preamble() Preamble { return m.preamble }

// Provenance returns the informative JSON of the writer, or nil.
func (m *Manifest) Provenance() []byte { return m.provenance }

// Places returns the places that objects under another prefix are in, for a
// writer that carries them on.
func (m *Manifest) Places() []string { return m.places }

// Keys returns the length of the key table.
func (m *Manifest) Keys() int { return len(m.keys) / keySize }

// Key returns an entry of the key table. The ObjectKey is a copy, the caller's
// to destroy.
func (m *Manifest) Key(i uint32) Key {
	return decodeKey(m.keys[int(i)*keySize:])
}

// Objects returns the length of the object table.
func (m *Manifest) Objects() int { return len(m.objects) / objectSize }

// Object returns an entry of the object table.
func (m *Manifest) Object(i uint32) Object {
	return decodeObject(m.objects[int(i)*objectSize:])
}

// ObjectName returns the name in the store of an object of this volume.
func (m *Manifest) ObjectName(o Object) string {
	if o.Place == 0 {
		return ObjectName(o.ID)
	}
	return m.places[o.Place-1] + "/" + ObjectName(o.ID)
}

// Identity returns what an object was sealed as.
func (m *Manifest) Identity(o Object) Identity {
	b := m.keys[int(o.Key)*keySize:]
	return Identity{Suite: Suite(b[52]), Kind: KindData, Slot: binary.LittleEndian.Uint32(b[48:]), Volume: VolumeID(b[32:48]), Object: o.ID}
}

// NewOpener returns an Opener for an object of this volume.
func (m *Manifest) NewOpener(o Object) (*Opener, error) {
	key := m.keys[int(o.Key)*keySize:][:32]
	return newOpener(key, m.Identity(o), o.Header, o.SealedLen)
}

// Inodes returns the highest inode number there may be.
func (m *Manifest) Inodes() uint32 { return uint32(len(m.inodes) / inodeSize) }

// Attr returns the attributes of an inode; ok is false where the number is not
// in use.
func (m *Manifest) Attr(inode uint32) (a Attr, ok bool) {
	if inode == 0 || inode > m.Inodes() {
		return a, false
	}
	n := m.node(inode)
	return n.attr(), n.mode() != 0
}

// Parent returns the inode number of a directory's parent.
func (m *Manifest) Parent(dir uint32) uint32 { return m.node(dir).aux() }

// Entries returns the range of entry indexes of a directory.
func (m *Manifest) Entries(dir uint32) (first, end uint32) {
	n := m.node(dir)
	return n.first(), n.first() + n.count()
}

// Entry returns the directory entry of an index. The name points into the
// manifest.
func (m *Manifest) Entry(i uint32) (name []byte, inode uint32) {
	b := m.entries[int(i)*entrySize:]
	off := binary.LittleEndian.Uint32(b[4:])
	return m.names[off : int(off)+int(b[8])], binary.LittleEndian.Uint32(b)
}

// Lookup returns the inode that name means in a directory.
func (m *Manifest) Lookup(dir uint32, name []byte) (inode uint32, ok bool) {
	first, end := m.Entries(dir)
	i := first + uint32(sort.Search(int(end-first), func(i int) bool {
		entry, _ := m.Entry(first + uint32(i))
		return bytes.Compare(entry, name) >= 0
	}))
	if i == end {
		return 0, false
	}
	entry, inode := m.Entry(i)
	return inode, bytes.Equal(entry, name)
}

// Target returns the target of a symlink. It points into the manifest.
func (m *Manifest) Target(inode uint32) []byte {
	n := m.node(inode)
	return m.names[n.first() : uint64(n.first())+uint64(n.count())]
}

// Extents returns the extents of a file that end beyond offset off, in order.
func (m *Manifest) Extents(file uint32, off uint64) iter.Seq[Extent] {
	n := m.node(file)
	table := m.extents[int(n.first())*extentSize:][:int(n.count())*extentSize]
	start := sort.Search(int(n.count()), func(i int) bool {
		return decodeExtent(table[i*extentSize:]).End() > off
	})
	return func(yield func(Extent) bool) {
		for b := table[start*extentSize:]; len(b) > 0; b = b[extentSize:] {
			if !yield(decodeExtent(b)) {
				return
			}
		}
	}
}

// Xattrs returns the extended attributes of an inode, ascending by name. The
// values point into the manifest.
func (m *Manifest) Xattrs(inode uint32) []Xattr {
	off := m.node(inode).xattrs()
	if off == 0 {
		return nil
	}
	attrs, _, err := decodeXattrs(m.xattrs[off-1:])
	if err != nil {
		return nil // validate has read them all
	}
	return attrs
}

// node is an inode entry as it lies in the manifest.
type node []byte

func (m *Manifest) node(inode uint32) node { return m.inodes[int(inode-1)*inodeSize:][:inodeSize] }

func (n node) mode() uint32   { return binary.LittleEndian.Uint32(n) }
func (n node) nlink() uint32  { return binary.LittleEndian.Uint32(n[12:]) }
func (n node) size() uint64   { return binary.LittleEndian.Uint64(n[16:]) }
func (n node) first() uint32  { return binary.LittleEndian.Uint32(n[48:]) }
func (n node) count() uint32  { return binary.LittleEndian.Uint32(n[52:]) }
func (n node) aux() uint32    { return binary.LittleEndian.Uint32(n[56:]) }
func (n node) xattrs() uint32 { return binary.LittleEndian.Uint32(n[60:]) }

func (n node) attr() Attr {
	le := binary.LittleEndian
	a := Attr{
		Mode: n.mode(), UID: le.Uint32(n[4:]), GID: le.Uint32(n[8:]), Nlink: n.nlink(), Size: n.size(),
		Mtime: Time{int64(le.Uint64(n[24:])), le.Uint32(n[32:])},
		Ctime: Time{int64(le.Uint64(n[36:])), le.Uint32(n[44:])},
	}
	if isDevice(a.Mode) {
		a.Rdev = n.aux()
	}
	return a
}

func isDevice(mode uint32) bool {
	return mode&ModeType == ModeChar || mode&ModeType == ModeBlock
}

func decodeKey(b []byte) Key {
	k := Key{Key: new(ObjectKey), Origin: VolumeID(b[32:48]), Slot: binary.LittleEndian.Uint32(b[48:]), Suite: Suite(b[52])}
	copy(k.Key.b[:], b)
	return k
}

func decodeObject(b []byte) Object {
	le := binary.LittleEndian
	return Object{ID: ObjectID(b[:16]), Header: Header(b[16:56]), SealedLen: int64(le.Uint64(b[56:])), Key: le.Uint32(b[64:]), Place: le.Uint32(b[68:])}
}

func decodeExtent(b []byte) Extent {
	le := binary.LittleEndian
	return Extent{FileOff: le.Uint64(b), Object: le.Uint32(b[8:]), ObjectOff: le.Uint32(b[12:]), Length: le.Uint32(b[16:])}
}

// decodeXattrs reads the attributes at the beginning of b and returns how many
// bytes they take.
func decodeXattrs(b []byte) (attrs []Xattr, size int, err error) {
	if len(b) < 2 {
		return nil, 0, malformed("extended attributes end early")
	}
	count := int(binary.LittleEndian.Uint16(b))
	size = 2
	for range count {
		if len(b)-size < 5 {
			return nil, 0, malformed("extended attributes end early")
		}
		nameLen, valueLen := int(b[size]), int64(binary.LittleEndian.Uint32(b[size+1:]))
		size += 5
		if nameLen == 0 || valueLen > MaxXattrValue || int64(len(b)-size) < int64(nameLen)+valueLen {
			return nil, 0, malformed("an extended attribute's length is wrong")
		}
		x := Xattr{Name: string(b[size : size+nameLen]), Value: b[size+nameLen : size+nameLen+int(valueLen)]}
		if strings.ContainsRune(x.Name, 0) {
			return nil, 0, malformed("the extended attribute %q has a NUL in its name", x.Name)
		}
		if len(attrs) > 0 && attrs[len(attrs)-1].Name >= x.Name {
			return nil, 0, malformed("extended attributes are not ascending")
		}
		attrs = append(attrs, x)
		size += nameLen + int(valueLen)
	}
	if size > MaxXattrs {
		return nil, 0, malformed("extended attributes of one inode take %d bytes", size)
	}
	return attrs, size, nil
}
