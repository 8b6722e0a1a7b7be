package prep

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// merger joins the trees of sources. Inodes get new numbers in the order in
// which they are met.
type merger struct {
	builder *format.Builder
	places  []string
	nodes   []mergedNode // number n+1
	clashes []string
	failed  error
	result  Merged
}

// mergedNode is an inode of the merged volume.
type mergedNode struct {
	source *source
	inode  uint32            // there
	attr   format.Attr       // of a directory: of all that became it
	names  map[string]uint32 // of a directory
}

func newMerger() *merger { return &merger{builder: new(format.Builder)} }

// add takes a source in.
func (m *merger) add(s *source) {
	m.result.Sources = append(m.result.Sources, s.m.Reference())
	if len(m.nodes) == 0 {
		m.node(s, format.RootInode)
	}
	s.inodes[format.RootInode] = format.RootInode
	m.directory(s, format.RootInode, format.RootInode, ".")
}

// node returns the number of a source's inode in the merged volume.
func (m *merger) node(s *source, inode uint32) uint32 {
	if n, ok := s.inodes[inode]; ok {
		return n
	}
	a, _ := s.m.Attr(inode)
	if len(m.nodes) >= format.MaxInodes && m.failed == nil {
		m.failed = fault.Errorf(fault.Refused, "merge fewer", "the sources hold more than the %d inodes that a volume may have", format.MaxInodes)
	}
	n := mergedNode{source: s, inode: inode, attr: a}
	if a.Type() == format.ModeDir {
		n.names = map[string]uint32{}
	}
	m.nodes = append(m.nodes, n)
	s.inodes[inode] = uint32(len(m.nodes))
	return s.inodes[inode]
}

// directory joins a source's directory dir into the merged one with number to.
// Depth is bounded by the format.
func (m *merger) directory(s *source, dir, to uint32, path string) {
	first, end := s.m.Entries(dir)
	for i := first; i < end && m.failed == nil; i++ {
		name, inode := s.m.Entry(i)
		a, _ := s.m.Attr(inode)
		at := strings.TrimPrefix(path+"/"+string(name), "./")
		there, taken := m.nodes[to-1].names[string(name)]
		switch {
		case !taken:
			there = m.node(s, inode)
			m.nodes[to-1].names[string(name)] = there
		case !m.joins(there, s, inode, a):
			m.clashes = append(m.clashes, fmt.Sprintf("%s is in %s and in %s", escaped(at), m.nodes[there-1].source.place, s.place))
			continue
		}
		if a.Type() == format.ModeDir {
			m.directory(s, inode, there, at)
		}
	}
}

// joins takes a directory into one that is there, if the two say the same of
// who may use it. Its times are the later ones.
func (m *merger) joins(there uint32, s *source, inode uint32, a format.Attr) bool {
	n := &m.nodes[there-1]
	same := n.attr.Type() == format.ModeDir && n.attr.Mode == a.Mode && n.attr.UID == a.UID && n.attr.GID == a.GID &&
		slices.EqualFunc(n.source.m.Xattrs(n.inode), s.m.Xattrs(inode), func(x, y format.Xattr) bool { return x.Name == y.Name && bytes.Equal(x.Value, y.Value) })
	if same {
		n.attr.Mtime, n.attr.Ctime = later(n.attr.Mtime, a.Mtime), later(n.attr.Ctime, a.Ctime)
	}
	return same
}

func later(a, b format.Time) format.Time {
	if earlier(a, b) {
		return b
	}
	return a
}

// maxClashes bounds how many clashes an error lists, each on a line.
const maxClashes = 100

func (m *merger) refuseClashes() error {
	if m.failed != nil || len(m.clashes) == 0 {
		return m.failed
	}
	list, more := m.clashes, ""
	if len(list) > maxClashes {
		list, more = list[:maxClashes], fmt.Sprintf("\n  and %d more", len(list)-maxClashes)
	}
	return fault.Errorf(fault.Conflict, "rename them where they were written; directories of one name join only with the same permissions, owners and extended attributes",
		"%d names clash, nothing was merged:\n  %s%s", len(m.clashes), strings.Join(list, "\n  "), more)
}

// build describes the merged tree, with the keys and objects that it uses and
// no others, and returns the plaintext of its manifest.
func (m *merger) build() ([]byte, error) {
	for i := range m.nodes {
		n := &m.nodes[i]
		m.count(n)
		m.builder.AddNode(uint32(i+1), m.describe(n))
		for name, inode := range n.names {
			m.builder.Link(uint32(i+1), []byte(name), inode)
		}
	}
	text, err := json.Marshal(mergeProvenance{mergeName, time.Now().UTC(), m.result.Sources})
	if err != nil {
		return nil, err
	}
	m.builder.SetProvenance(text)
	m.builder.SetPlaces(m.places)
	return m.builder.Finish()
}

func (m *merger) count(n *mergedNode) {
	switch n.attr.Type() {
	case format.ModeFile:
		m.result.Files++
		m.result.Bytes += n.attr.Size
	case format.ModeDir:
		m.result.Directories++
	default:
		m.result.Others++
	}
}

func (m *merger) describe(n *mergedNode) format.Node {
	node := format.Node{Attr: n.attr, Xattrs: n.source.m.Xattrs(n.inode)}
	switch n.attr.Type() {
	case format.ModeFile:
		for x := range n.source.m.Extents(n.inode, 0) {
			x.Object = m.object(n.source, x.Object)
			node.Extents = append(node.Extents, x)
		}
	case format.ModeSymlink:
		node.Target = n.source.m.Target(n.inode)
	}
	return node
}

// object takes a source's object over, as it was sealed and where it lies.
func (m *merger) object(s *source, i uint32) uint32 {
	return memo(s.objects, i, func() uint32 {
		o := s.m.Object(i)
		o.Key, o.Place = m.key(s, o.Key), m.placeOf(s, o.Place)
		m.result.Objects++
		return m.builder.AddObject(o)
	})
}

func (m *merger) key(s *source, i uint32) uint32 {
	return memo(s.keys, i, func() uint32 {
		k := s.m.Key(i)
		defer k.Key.Destroy()
		m.result.Keys++
		return m.builder.AddKey(k)
	})
}

// placeOf is the place of a source's place n: a source may have been merged
// itself.
func (m *merger) placeOf(s *source, n uint32) uint32 {
	return memo(s.places, n, func() uint32 {
		at := s.place
		if n > 0 {
			at += "/" + s.m.Places()[n-1]
		}
		m.places = append(m.places, at)
		return uint32(len(m.places))
	})
}

// memo returns what is known for i, or makes it known.
func memo(known map[uint32]uint32, i uint32, make func() uint32) uint32 {
	n, ok := known[i]
	if !ok {
		n = make()
		known[i] = n
	}
	return n
}
