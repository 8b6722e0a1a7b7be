package prep

import (
	"slices"
	"strconv"
	"strings"

	"cloister/fs/format"
)

// paths names the inodes of a manifest: for each, the first entry that names it
// in a walk in the order of names. It takes 8 bytes an inode.
type paths struct {
	m      *format.Manifest
	parent []uint32
	entry  []uint32
}

func newPaths(m *format.Manifest) *paths {
	p := &paths{m: m, parent: make([]uint32, m.Inodes()+1), entry: make([]uint32, m.Inodes()+1)}
	p.directory(format.RootInode)
	return p
}

func (p *paths) directory(dir uint32) {
	first, end := p.m.Entries(dir)
	for i := first; i < end; i++ {
		_, inode := p.m.Entry(i)
		if p.parent[inode] != 0 {
			continue
		}
		p.parent[inode], p.entry[inode] = dir, i
		if a, _ := p.m.Attr(inode); a.Type() == format.ModeDir {
			p.directory(inode)
		}
	}
}

// isFirst reports whether an entry is the one that path goes by.
func (p *paths) isFirst(entry, inode uint32) bool { return p.entry[inode] == entry }

// of returns the path of an inode below the root, with slashes; "." is the
// root's.
func (p *paths) of(inode uint32) string {
	if inode == format.RootInode {
		return "."
	}
	var parts []string
	for ; inode != format.RootInode; inode = p.parent[inode] {
		name, _ := p.m.Entry(p.entry[inode])
		parts = append(parts, string(name))
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/")
}

// escaped returns a path as inside a Go string: names are any bytes, and go to
// terminals and into JSON.
func escaped(path string) string {
	quoted := strconv.Quote(path)
	return quoted[1 : len(quoted)-1]
}
