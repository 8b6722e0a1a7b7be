package format

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
)

// Section types and flags, FORMAT.md §6.
const (
	sectionKeys       = 1
	sectionObjects    = 2
	sectionInodes     = 3
	sectionEntries    = 4
	sectionNames      = 5
	sectionExtents    = 6
	sectionXattrs     = 7
	sectionProvenance = 8
	sectionPlaces     = 9

	flagCritical = 1

	sectionEntrySize = 24
)

// parse finds the sections. What they hold is validate's to check.
func (m *Manifest) parse(plain []byte) error {
	le := binary.LittleEndian
	if len(plain) < 8 {
		return malformed("the manifest ends before its section table")
	}
	count, reserved := le.Uint32(plain), le.Uint32(plain[4:])
	if count > maxSections || reserved != 0 || uint64(len(plain)-8) < uint64(count)*sectionEntrySize {
		return malformed("a section table of %d entries", count)
	}
	at := uint64(8 + count*sectionEntrySize)
	var seen [sectionPlaces + 1]bool
	for i := range count {
		e := plain[8+i*sectionEntrySize:]
		kind, flags, off, length := le.Uint16(e), le.Uint16(e[2:]), le.Uint64(e[8:]), le.Uint64(e[16:])
		if le.Uint32(e[4:]) != 0 || flags&^flagCritical != 0 || off%8 != 0 || off < at || off > uint64(len(plain)) || length > uint64(len(plain))-off {
			return malformed("section %d of type %d lies at %d+%d", i, kind, off, length)
		}
		at = off + length
		body := plain[off:at:at]
		known, err := m.section(kind, body)
		switch {
		case err != nil:
			return err
		case !known && flags&flagCritical != 0:
			return malformed("section type %d is critical and not known to this version", kind)
		case known && seen[kind]:
			return malformed("section type %d occurs twice", kind)
		case known:
			seen[kind] = true
		}
	}
	for kind := sectionKeys; kind <= sectionExtents; kind++ {
		if !seen[kind] {
			return malformed("section type %d is missing", kind)
		}
	}
	if !allZero(plain[at:]) {
		return malformed("the padding is not zeros")
	}
	return nil
}

func (m *Manifest) section(kind uint16, body []byte) (known bool, err error) {
	table := func(dst *[]byte, size, limit int) error {
		if len(body)%size != 0 || len(body)/size > limit {
			return malformed("section type %d is %d bytes long", kind, len(body))
		}
		*dst = body
		return nil
	}
	switch kind {
	case sectionKeys:
		return true, table(&m.keys, keySize, MaxKeys)
	case sectionObjects:
		return true, table(&m.objects, objectSize, MaxObjects)
	case sectionInodes:
		return true, table(&m.inodes, inodeSize, MaxInodes)
	case sectionEntries:
		return true, table(&m.entries, entrySize, MaxEntries)
	case sectionNames:
		return true, table(&m.names, 1, 1<<32-1)
	case sectionExtents:
		return true, table(&m.extents, extentSize, MaxExtents)
	case sectionXattrs:
		return true, table(&m.xattrs, 1, 1<<32-2)
	case sectionProvenance:
		if !json.Valid(body) {
			return true, malformed("the provenance is not JSON")
		}
		if bytes.TrimLeft(body, " \t\r\n")[0] != '{' {
			return true, malformed("the provenance is not a JSON object")
		}
		m.provenance = body
		return true, nil
	case sectionPlaces:
		m.places, err = decodePlaces(body)
		return true, err
	default:
		return false, nil
	}
}

func decodePlaces(b []byte) ([]string, error) {
	if len(b) < 2 {
		return nil, malformed("the places end early")
	}
	places := make([]string, 0, min(int(binary.LittleEndian.Uint16(b)), len(b)/2))
	count := binary.LittleEndian.Uint16(b)
	b = b[2:]
	for range count {
		if len(b) < 2 || len(b)-2 < int(binary.LittleEndian.Uint16(b)) {
			return nil, malformed("the places end early")
		}
		n := int(binary.LittleEndian.Uint16(b))
		place := string(b[2 : 2+n])
		for segment := range strings.SplitSeq(place, "/") {
			if segment == "" || segment == "." || segment == ".." || strings.ContainsAny(segment, "\x00\\") {
				return nil, malformed("place %q is not a relative path", place)
			}
		}
		places = append(places, place)
		b = b[2+n:]
	}
	if len(b) != 0 {
		return nil, malformed("the places are followed by %d bytes", len(b))
	}
	return places, nil
}

// validate checks all of FORMAT.md §6, so that nothing the rest of Manifest
// does can leave a table. The manifest is authentic by now, and still a
// stranger's.
func (m *Manifest) validate() error {
	if m.Inodes() == 0 || m.node(RootInode).mode()&ModeType != ModeDir || m.node(RootInode).aux() != RootInode {
		return malformed("inode 1 is not a root directory")
	}
	if err := m.validateKeysAndObjects(); err != nil {
		return err
	}
	if err := m.validateInodes(); err != nil {
		return err
	}
	return m.validateTree()
}

func (m *Manifest) validateKeysAndObjects() error {
	for i := range m.Keys() {
		b := m.keys[i*keySize:][:keySize]
		if !Suite(b[52]).Known() || !allZero(b[53:]) {
			return malformed("key %d is of suite %d, which is not known to this version", i, b[52])
		}
	}
	for i := range m.Objects() {
		o := m.Object(uint32(i))
		if int(o.Key) >= m.Keys() || int(o.Place) > len(m.places) {
			return malformed("object %d has key %d and place %d", i, o.Key, o.Place)
		}
		_, ok := m.Identity(o).Suite.PlainLen(o.SealedLen)
		if !ok || o.SealedLen > MaxSealedObject || o.Header[0] != headerSize {
			return malformed("object %d cannot be %d bytes long", i, o.SealedLen)
		}
	}
	return nil
}

// validateInodes checks each inode alone: type, run of entries or extents,
// attributes.
func (m *Manifest) validateInodes() error {
	var nextEntry, nextExtent uint64
	for inode := uint32(1); inode <= m.Inodes(); inode++ {
		n := m.node(inode)
		first, count := uint64(n.first()), uint64(n.count())
		var err error
		switch n.mode() & ModeType {
		case ModeDir:
			if first != nextEntry || first+count > uint64(len(m.entries)/entrySize) || n.size() != 0 {
				return malformed("directory %d has its entries at %d+%d", inode, first, count)
			}
			nextEntry += count
			err = m.validateDir(inode)
		case ModeFile:
			if first != nextExtent || first+count > uint64(len(m.extents)/extentSize) || n.size() > 1<<63-1 || n.aux() != 0 {
				return malformed("file %d has its extents at %d+%d", inode, first, count)
			}
			nextExtent += count
			err = m.validateFile(inode)
		case ModeSymlink:
			if count == 0 || count > MaxTarget || first+count > uint64(len(m.names)) || n.size() != count || n.aux() != 0 ||
				bytes.IndexByte(m.Target(inode), 0) >= 0 {
				return malformed("symlink %d has its target at %d+%d", inode, first, count)
			}
		case ModeFifo, ModeSocket, ModeChar, ModeBlock:
			if first|count|n.size() != 0 || !isDevice(n.mode()) && n.aux() != 0 {
				return malformed("inode %d of mode %o has contents", inode, n.mode())
			}
		default:
			if !allZero(n) {
				return malformed("inode %d has mode %o", inode, n.mode())
			}
			continue
		}
		if err == nil {
			err = m.validateCommon(inode)
		}
		if err != nil {
			return err
		}
	}
	if nextEntry != uint64(len(m.entries)/entrySize) || nextExtent != uint64(len(m.extents)/extentSize) {
		return malformed("the inodes use %d entries and %d extents of %d and %d",
			nextEntry, nextExtent, len(m.entries)/entrySize, len(m.extents)/extentSize)
	}
	return nil
}

func (m *Manifest) validateCommon(inode uint32) error {
	n := m.node(inode)
	a := n.attr()
	if a.Mode&^(ModeType|0o7777) != 0 || a.Mtime.Nsec >= 1e9 || a.Ctime.Nsec >= 1e9 {
		return malformed("inode %d has mode %o or a time out of range", inode, a.Mode)
	}
	if off := n.xattrs(); off != 0 {
		if uint64(off) > uint64(len(m.xattrs)) {
			return malformed("inode %d has its extended attributes at %d", inode, off)
		}
		if _, _, err := decodeXattrs(m.xattrs[off-1:]); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manifest) validateDir(dir uint32) error {
	var previous []byte
	first, end := m.Entries(dir)
	for i := first; i < end; i++ {
		b := m.entries[int(i)*entrySize:][:entrySize]
		if uint64(binary.LittleEndian.Uint32(b[4:]))+uint64(b[8]) > uint64(len(m.names)) || !allZero(b[9:]) {
			return malformed("an entry of directory %d has its name outside the names", dir)
		}
		name, _ := m.Entry(i)
		if !ValidName(name) {
			return malformed("directory %d has an entry named %q", dir, name)
		}
		if previous != nil && bytes.Compare(previous, name) >= 0 {
			return malformed("the entries of directory %d are not ascending", dir)
		}
		previous = name
	}
	return nil
}

// ValidName reports whether a directory entry may have this name.
func ValidName(name []byte) bool {
	return len(name) > 0 && len(name) <= MaxName && string(name) != "." && string(name) != ".." &&
		bytes.IndexByte(name, '/') < 0 && bytes.IndexByte(name, 0) < 0
}

func (m *Manifest) validateFile(file uint32) error {
	var end uint64
	n := m.node(file)
	table := m.extents[int(n.first())*extentSize:][:int(n.count())*extentSize]
	for ; len(table) > 0; table = table[extentSize:] {
		e := decodeExtent(table)
		if e.Length == 0 || e.FileOff < end || e.FileOff > n.size() || uint64(e.Length) > n.size()-e.FileOff || int(e.Object) >= m.Objects() {
			return malformed("file %d has an extent at %d+%d in object %d", file, e.FileOff, e.Length, e.Object)
		}
		o := m.Object(e.Object)
		plainLen, _ := m.Identity(o).Suite.PlainLen(o.SealedLen)
		if int64(e.ObjectOff)+int64(e.Length) > plainLen {
			return malformed("file %d has an extent beyond object %d", file, e.Object)
		}
		end = e.End()
	}
	return nil
}

// validateTree checks how inodes hang together: link counts, parents, depth,
// no cycle.
func (m *Manifest) validateTree() error {
	links := make([]uint32, m.Inodes()+1)
	for dir := uint32(1); dir <= m.Inodes(); dir++ {
		if m.node(dir).mode()&ModeType != ModeDir {
			continue
		}
		links[dir] += 2
		first, end := m.Entries(dir)
		for i := first; i < end; i++ {
			name, inode := m.Entry(i)
			if inode == 0 || inode > m.Inodes() || inode == RootInode || m.node(inode).mode() == 0 {
				return malformed("entry %q of directory %d names inode %d", name, dir, inode)
			}
			if m.node(inode).mode()&ModeType != ModeDir {
				links[inode]++
				continue
			}
			if m.Parent(inode) != dir || links[inode]&named != 0 {
				return malformed("directory %d is named in %d, its parent is %d", inode, dir, m.Parent(inode))
			}
			links[inode] |= named
			links[dir]++
		}
	}
	for inode := uint32(1); inode <= m.Inodes(); inode++ {
		n := m.node(inode)
		isDir := n.mode()&ModeType == ModeDir
		if isDir && inode != RootInode && links[inode]&named == 0 || links[inode]&^named != n.nlink() || n.mode() != 0 && n.nlink() == 0 {
			return malformed("inode %d is named %d times, its link count is %d", inode, links[inode]&^named, n.nlink())
		}
	}
	return m.validateDepth(links)
}

// named marks, in validateTree's counts, a directory that an entry names: link
// counts stay below it, as MaxEntries does.
const named = 1 << 31

// validateDepth walks from each directory towards the root, and stops where an
// earlier walk came through. depths is memory to use, one a directory.
func (m *Manifest) validateDepth(depths []uint32) error {
	clear(depths)
	depths[RootInode] = 1
	var path []uint32
	for dir := uint32(1); dir <= m.Inodes(); dir++ {
		if m.node(dir).mode()&ModeType != ModeDir {
			continue
		}
		path = path[:0]
		up := dir
		for ; depths[up] == 0; up = m.Parent(up) {
			if len(path) == MaxDepth {
				return malformed("directory %d is deeper than %d levels, or its own ancestor", dir, MaxDepth)
			}
			path = append(path, up)
		}
		depth := depths[up]
		for _, d := range slices.Backward(path) {
			depth++
			depths[d] = depth
		}
		if depth > MaxDepth {
			return malformed("directory %d is deeper than %d levels", dir, MaxDepth)
		}
	}
	return nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
