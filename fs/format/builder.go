package format

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// Builder makes the plaintext of a manifest. Tables grow as the caller adds to
// them, so that a tree of millions of files is described while it is walked;
// inodes come in ascending order, directory entries in any.
type Builder struct {
	keys, objects, inodes, names, extents, xattrs []byte
	entries                                       []link
	provenance                                    []byte
	places                                        []string
	err                                           error // the first; Finish returns it
}

type link struct {
	parent, inode uint32
	name          uint32 // offset in names
	nameLen       uint32
}

// Node is an inode with what it holds. Attr.Nlink is ignored: Finish counts
// the entries. Attr.Size is set by AddNode for a symlink.
type Node struct {
	Attr    Attr
	Extents []Extent // of a file
	Target  []byte   // of a symlink
	Xattrs  []Xattr  // in any order
}

// AddKey adds an entry to the key table and returns its index, which is also
// the slot to seal objects with.
func (b *Builder) AddKey(k Key) uint32 {
	b.keys = appendKey(b.keys, k)
	return uint32(len(b.keys)/keySize - 1)
}

// AddObject adds an entry to the object table and returns its index.
func (b *Builder) AddObject(o Object) uint32 {
	b.objects = appendObject(b.objects, o)
	return uint32(len(b.objects)/objectSize - 1)
}

// SetObject replaces an entry of the object table, for a writer that assigns
// extents before the object is sealed.
func (b *Builder) SetObject(i uint32, o Object) {
	appendObject(b.objects[:int(i)*objectSize], o)
}

// SetProvenance sets the informative JSON of the writer.
func (b *Builder) SetProvenance(json []byte) { b.provenance = json }

// SetPlaces sets the places of objects that lie under another prefix.
func (b *Builder) SetPlaces(places []string) { b.places = places }

// AddNode adds an inode. Numbers ascend from call to call; those left out are
// unused entries of 64 bytes, so a caller whose numbers are a stranger's gives
// out its own.
func (b *Builder) AddNode(inode uint32, n Node) {
	entry := make([]byte, inodeSize)
	le := binary.LittleEndian
	switch n.Attr.Type() {
	case ModeFile:
		le.PutUint32(entry[48:], uint32(len(b.extents)/extentSize))
		le.PutUint32(entry[52:], uint32(len(n.Extents)))
		for _, e := range n.Extents {
			b.extents = appendExtent(b.extents, e)
		}
	case ModeSymlink:
		n.Attr.Size = uint64(len(n.Target))
		le.PutUint32(entry[48:], uint32(len(b.names)))
		le.PutUint32(entry[52:], uint32(len(n.Target)))
		b.names = append(b.names, n.Target...)
	}
	encodeAttr(entry, n.Attr)
	if len(n.Xattrs) > 0 {
		b.checkXattrs(inode, n.Xattrs)
		le.PutUint32(entry[60:], uint32(len(b.xattrs))+1)
		b.xattrs = appendXattrs(b.xattrs, n.Xattrs)
	}
	b.inodes = append(b.inodes, make([]byte, max(0, int(inode-1)*inodeSize-len(b.inodes)))...)
	b.inodes = append(b.inodes, entry...)
}

func (b *Builder) checkXattrs(inode uint32, attrs []Xattr) {
	for _, x := range attrs {
		if len(x.Name) == 0 || len(x.Name) > MaxName || strings.ContainsRune(x.Name, 0) || len(x.Value) > MaxXattrValue {
			b.fail(malformed("inode %d has an extended attribute %q of %d bytes", inode, x.Name, len(x.Value)))
		}
	}
}

func (b *Builder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// AddExtents adds extents to the file that was added last.
func (b *Builder) AddExtents(extents ...Extent) {
	last := b.inodes[len(b.inodes)-inodeSize:]
	count := binary.LittleEndian.Uint32(last[52:])
	binary.LittleEndian.PutUint32(last[52:], count+uint32(len(extents)))
	for _, e := range extents {
		b.extents = appendExtent(b.extents, e)
	}
}

// Link adds a directory entry.
func (b *Builder) Link(parent uint32, name []byte, inode uint32) {
	if !ValidName(name) {
		b.fail(malformed("no entry can be named %q", name))
	}
	b.entries = append(b.entries, link{parent, inode, uint32(len(b.names)), uint32(len(name))})
	b.names = append(b.names, name...)
}

// Finish returns the plaintext of the manifest. It refuses, as a reader would,
// a tree that is not well-formed. It ends the Builder, whose tables are given back:
// they are as large as the manifest.
func (b *Builder) Finish() ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	if err := b.finishTables(); err != nil {
		return nil, err
	}
	entries := make([]byte, 0, len(b.entries)*entrySize)
	for _, e := range b.entries {
		entries = binary.LittleEndian.AppendUint32(entries, e.inode)
		entries = binary.LittleEndian.AppendUint32(entries, e.name)
		entries = append(entries, uint8(e.nameLen), 0, 0, 0)
	}
	b.entries = nil
	sections := []section{
		{sectionKeys, flagCritical, b.keys}, {sectionObjects, flagCritical, b.objects},
		{sectionInodes, flagCritical, b.inodes}, {sectionEntries, flagCritical, entries},
		{sectionNames, flagCritical, b.names}, {sectionExtents, flagCritical, b.extents},
	}
	if len(b.xattrs) > 0 {
		sections = append(sections, section{sectionXattrs, flagCritical, b.xattrs})
	}
	if len(b.provenance) > 0 {
		sections = append(sections, section{sectionProvenance, 0, b.provenance})
	}
	if len(b.places) > 0 {
		sections = append(sections, section{sectionPlaces, flagCritical, encodePlaces(b.places)})
	}
	plain := encodeSections(sections)
	*b = Builder{err: malformed("a Builder was finished twice")}
	m := new(Manifest)
	if err := m.parse(plain); err != nil {
		return nil, err
	}
	return plain, m.validate()
}

// finishTables sorts the entries and fills in what follows from them: where
// each directory's run is, parents, link counts.
func (b *Builder) finishTables() error {
	le := binary.LittleEndian
	count := uint32(len(b.inodes) / inodeSize)
	slices.SortFunc(b.entries, func(x, y link) int {
		if c := cmp.Compare(x.parent, y.parent); c != 0 {
			return c
		}
		return bytes.Compare(b.name(x), b.name(y))
	})
	at := func(inode uint32) node { return b.inodes[int(inode-1)*inodeSize:][:inodeSize] }
	addLinks := func(n node, by uint32) { le.PutUint32(n[12:], n.nlink()+by) }
	next := 0
	for inode := uint32(1); inode <= count; inode++ {
		n := at(inode)
		if n.mode()&ModeType != ModeDir {
			continue
		}
		if inode == RootInode {
			le.PutUint32(n[56:], RootInode)
		}
		addLinks(n, 2)
		first := next
		for ; next < len(b.entries) && b.entries[next].parent == inode; next++ {
			e := b.entries[next]
			if e.inode == 0 || e.inode > count {
				return malformed("entry %q names inode %d", b.name(e), e.inode)
			}
			if child := at(e.inode); child.mode()&ModeType == ModeDir {
				le.PutUint32(child[56:], inode)
				addLinks(n, 1)
			} else {
				addLinks(child, 1)
			}
		}
		le.PutUint32(n[48:], uint32(first))
		le.PutUint32(n[52:], uint32(next-first))
	}
	if next != len(b.entries) {
		return malformed("entry %q is in %d, which is not a directory", b.name(b.entries[next]), b.entries[next].parent)
	}
	return nil
}

func (b *Builder) name(e link) []byte { return b.names[e.name:][:e.nameLen] }

type section struct {
	kind, flags uint16
	body        []byte
}

func encodeSections(sections []section) []byte {
	le := binary.LittleEndian
	off := uint64(8 + len(sections)*sectionEntrySize)
	plain := le.AppendUint32(nil, uint32(len(sections)))
	plain = le.AppendUint32(plain, 0)
	for _, s := range sections {
		plain = le.AppendUint16(plain, s.kind)
		plain = le.AppendUint16(plain, s.flags)
		plain = le.AppendUint32(plain, 0)
		plain = le.AppendUint64(plain, off)
		plain = le.AppendUint64(plain, uint64(len(s.body)))
		off = align8(off + uint64(len(s.body)))
	}
	plain = grow(plain, int64(off)-int64(len(plain)))
	for _, s := range sections {
		plain = append(plain, make([]byte, align8(uint64(len(plain)))-uint64(len(plain)))...)
		plain = append(plain, s.body...)
	}
	return plain
}

func align8(n uint64) uint64 { return (n + 7) &^ 7 }

func encodePlaces(places []string) []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(len(places)))
	for _, p := range places {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(p)))
		b = append(b, p...)
	}
	return b
}

func appendKey(b []byte, k Key) []byte {
	b = append(b, k.Key.b[:]...)
	b = append(b, k.Origin[:]...)
	b = binary.LittleEndian.AppendUint32(b, k.Slot)
	return append(b, byte(k.Suite), 0, 0, 0)
}

func appendObject(b []byte, o Object) []byte {
	b = append(b, o.ID[:]...)
	b = append(b, o.Header[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(o.SealedLen))
	b = binary.LittleEndian.AppendUint32(b, o.Key)
	return binary.LittleEndian.AppendUint32(b, o.Place)
}

func appendExtent(b []byte, e Extent) []byte {
	b = binary.LittleEndian.AppendUint64(b, e.FileOff)
	b = binary.LittleEndian.AppendUint32(b, e.Object)
	b = binary.LittleEndian.AppendUint32(b, e.ObjectOff)
	return binary.LittleEndian.AppendUint32(b, e.Length)
}

func appendXattrs(b []byte, attrs []Xattr) []byte {
	attrs = slices.SortedFunc(slices.Values(attrs), func(x, y Xattr) int { return cmp.Compare(x.Name, y.Name) })
	b = binary.LittleEndian.AppendUint16(b, uint16(len(attrs)))
	for _, x := range attrs {
		b = append(b, uint8(len(x.Name)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(x.Value)))
		b = append(append(b, x.Name...), x.Value...)
	}
	return b
}

// encodeAttr writes everything of an inode entry but link count, first, count
// and xattrs.
func encodeAttr(entry []byte, a Attr) {
	le := binary.LittleEndian
	le.PutUint32(entry, a.Mode)
	le.PutUint32(entry[4:], a.UID)
	le.PutUint32(entry[8:], a.GID)
	le.PutUint64(entry[16:], a.Size)
	le.PutUint64(entry[24:], uint64(a.Mtime.Sec))
	le.PutUint32(entry[32:], a.Mtime.Nsec)
	le.PutUint64(entry[36:], uint64(a.Ctime.Sec))
	le.PutUint32(entry[44:], a.Ctime.Nsec)
	if isDevice(a.Mode) {
		le.PutUint32(entry[56:], a.Rdev)
	}
}
