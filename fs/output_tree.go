package fs

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"cloister/fs/format"
)

// tree is an output volume in memory: what a manifest says, loaded to be
// changed, and what a journal's records or the application then make of it.
type tree struct {
	volume  format.VolumeID
	keys    []format.Key  // the index is the slot
	objects []*dataObject // in the order of the journal's object table
	places  []string
	nodes   map[uint32]*node
	next    uint32   // the lowest inode number never used
	free    []uint32 // used before, free again
	created uint64   // generations given out
	deepest int      // no directory is or was further below the root
}

// node is an inode. Output.mu guards all of it.
type node struct {
	inode      uint32
	generation uint64 // tells one use of an inode number from another
	attr       format.Attr
	atime      format.Time // kept in memory only: the format has none
	target     []byte
	xattrs     map[string][]byte
	dir        *directory
	parent     uint32 // of a directory
	extents    extents
	pages      map[int64]*page
	held       spans // whole pages that count: with data, or allocated
	charged    int64 // their bytes, which are part of Output.used

	pins      uint64    // lookups not forgotten, and open files
	journaled bool      // the manifest or the journal has it
	named     bool      // has a name that the journal does not have
	settling  bool      // a record that says how it is may not be in the store yet
	due       time.Time // of the commit of what changed; zero: nothing did
	run       int64     // bytes written one behind the other, not yet staged
	runEnd    int64     // where the next of them would begin
	failures  uint64    // flushes that failed, for the files open meanwhile
	failure   error     // the last of them
}

func (n *node) size() int64  { return int64(n.attr.Size) }
func (n *node) isDir() bool  { return n.attr.Type() == format.ModeDir }
func (n *node) isFile() bool { return n.attr.Type() == format.ModeFile }

// directory holds names. Each entry has a cookie of its own, ascending in
// order of creation, so a reader of the directory goes on after the last entry
// it saw whatever came and went meanwhile.
type directory struct {
	names map[string]*dirent
	order []*dirent // ascending by cookie, with the dead among them
	last  uint64    // cookie
}

type dirent struct {
	name   string
	inode  uint32 // 0: dead
	cookie uint64
}

// firstCookie leaves 1 and 2 to "." and "..".
const firstCookie = 3

func newDirectory() *directory {
	return &directory{names: map[string]*dirent{}, last: firstCookie - 1}
}

func (d *directory) get(name string) uint32 {
	if e := d.names[name]; e != nil {
		return e.inode
	}
	return 0
}

func (d *directory) set(name string, inode uint32) {
	if e := d.names[name]; e != nil {
		e.inode = inode
		return
	}
	d.last++
	e := &dirent{name, inode, d.last}
	d.names[name] = e
	d.order = append(d.order, e)
}

func (d *directory) remove(name string) {
	e := d.names[name]
	if e == nil {
		return
	}
	e.inode = 0
	delete(d.names, name)
	if len(d.order) > 2*len(d.names)+16 {
		d.order = slices.DeleteFunc(slices.Clone(d.order), func(e *dirent) bool { return e.inode == 0 })
	}
}

// after returns the entries whose cookies are higher than cookie.
func (d *directory) after(cookie uint64) []*dirent {
	i, found := slices.BinarySearchFunc(d.order, cookie, func(e *dirent, c uint64) int { return cmp.Compare(e.cookie, c) })
	if found {
		i++
	}
	return d.order[i:]
}

// newTree returns the tree of a volume with nothing in it.
func newTree(volume format.VolumeID, root format.Attr) *tree {
	t := &tree{volume: volume, nodes: map[uint32]*node{}, next: format.RootInode + 1}
	root.Mode, root.Nlink, root.Size = format.ModeDir|root.Mode&0o7777, 2, 0
	t.nodes[format.RootInode] = &node{inode: format.RootInode, attr: root, dir: newDirectory(), parent: format.RootInode}
	return t
}

// loadTree returns the tree of a manifest.
func loadTree(m *format.Manifest) *tree {
	t := &tree{volume: m.Preamble().Volume, nodes: map[uint32]*node{}, places: m.Places(), next: m.Inodes() + 1}
	for i := range m.Keys() {
		t.keys = append(t.keys, m.Key(uint32(i)))
	}
	for i := range m.Objects() {
		o := m.Object(uint32(i))
		t.objects = append(t.objects, &dataObject{Object: o, name: m.ObjectName(o), index: uint32(i), journaled: true})
	}
	for inode := uint32(1); inode <= m.Inodes(); inode++ {
		if attr, ok := m.Attr(inode); ok {
			t.nodes[inode] = t.loadNode(m, inode, attr)
		} else {
			t.free = append(t.free, inode)
		}
	}
	t.deepest = t.height(t.nodes[format.RootInode])
	return t
}

func (t *tree) loadNode(m *format.Manifest, inode uint32, attr format.Attr) *node {
	n := &node{inode: inode, attr: attr, atime: attr.Mtime, journaled: true}
	switch attr.Type() {
	case format.ModeDir:
		n.parent, n.dir = m.Parent(inode), newDirectory()
		first, end := m.Entries(inode)
		for i := first; i < end; i++ {
			name, child := m.Entry(i)
			n.dir.set(string(name), child)
		}
	case format.ModeFile:
		for e := range m.Extents(inode, 0) {
			n.extents = append(n.extents, extent{int64(e.FileOff), e.Length, e.ObjectOff, t.objects[e.Object]})
		}
	case format.ModeSymlink:
		n.target = slices.Clone(m.Target(inode))
	}
	n.setXattrs(m.Xattrs(inode))
	return n
}

func (n *node) setXattrs(attrs []format.Xattr) {
	n.xattrs = nil
	for _, x := range attrs {
		if n.xattrs == nil {
			n.xattrs = map[string][]byte{}
		}
		n.xattrs[x.Name] = slices.Clone(x.Value)
	}
}

// formatXattrs returns the attributes for a record or manifest. Values are
// replaced, never changed, so they may be read after the lock is gone.
func (n *node) formatXattrs() []format.Xattr {
	var attrs []format.Xattr
	for name, value := range n.xattrs {
		attrs = append(attrs, format.Xattr{Name: name, Value: value})
	}
	return attrs
}

// height returns how many levels of directories are below n.
func (t *tree) height(n *node) int {
	deepest, level := 0, []*node{n}
	for depth := 1; len(level) > 0; depth++ {
		deepest = depth - 1
		var below []*node
		for _, d := range level {
			for _, e := range d.dir.names {
				if c := t.nodes[e.inode]; c.isDir() {
					below = append(below, c)
				}
			}
		}
		level = below
	}
	return deepest
}

// depth returns how many levels below the root a directory is.
func (t *tree) depth(n *node) (depth int) {
	for ; n.inode != format.RootInode; n = t.nodes[n.parent] {
		depth++
	}
	return depth
}

// newNode adds an inode without a name, and gives it a number. ok is false
// where the format has no more.
func (t *tree) newNode(attr format.Attr) (n *node, ok bool) {
	n = &node{attr: attr}
	switch last := len(t.free) - 1; {
	case last >= 0:
		n.inode, t.free = t.free[last], t.free[:last]
	case t.next <= format.MaxInodes:
		n.inode = t.next
		t.next++
	default:
		return nil, false
	}
	t.created++
	n.generation = t.created
	t.nodes[n.inode] = n
	return n, true
}

// build describes the tree to a Builder, with the objects that it uses and no
// others, and returns the plaintext of its manifest.
func (t *tree) build(provenance []byte) ([]byte, error) {
	b := new(format.Builder)
	for _, k := range t.keys {
		b.AddKey(k)
	}
	b.SetPlaces(t.places)
	b.SetProvenance(provenance)
	inodes := t.named()
	number := numbering(inodes)
	index := map[*dataObject]uint32{}
	for _, inode := range inodes {
		n := t.nodes[inode]
		for _, e := range n.extents {
			if _, ok := index[e.obj]; !ok {
				index[e.obj] = b.AddObject(e.obj.Object)
			}
		}
		b.AddNode(number(inode), n.format(n.extents, func(o *dataObject) uint32 { return index[o] }))
		if n.isDir() {
			for name, e := range n.dir.names {
				b.Link(number(inode), []byte(name), number(e.inode))
			}
		}
	}
	return b.Finish()
}

// named returns the inodes that have a name, ascending; the others are unlinked,
// and somebody has them open still.
func (t *tree) named() []uint32 {
	inodes := slices.DeleteFunc(slices.Collect(maps.Keys(t.nodes)), func(i uint32) bool { return t.nodes[i].attr.Nlink == 0 })
	slices.Sort(inodes)
	return inodes
}

// maxUnused is how many unused entries an inode table has at least room for:
// 4 MiB of them.
const maxUnused = 1 << 16

// numbering returns the numbers that inodes, which ascend, have in a manifest.
// They stay as they are, unless more of the table would be unused than used:
// then they close ranks. An honest writer leaves numbers out where it had files
// open that lost their names; a hostile record names 2^28 and would otherwise
// be answered with a table of 16 GiB.
func numbering(inodes []uint32) func(inode uint32) uint32 {
	used := len(inodes)
	if used == 0 || int(inodes[used-1])-used <= max(used, maxUnused) {
		return func(inode uint32) uint32 { return inode }
	}
	return func(inode uint32) uint32 {
		i, ok := slices.BinarySearch(inodes, inode)
		if !ok {
			return 0 // which the Builder refuses
		}
		return uint32(i) + 1
	}
}

// format returns the inode as the format describes it, with the extents of
// list, whose objects have the numbers that index tells.
func (n *node) format(list extents, index func(*dataObject) uint32) format.Node {
	f := format.Node{Attr: n.attr, Target: n.target, Xattrs: n.formatXattrs()}
	for _, e := range list {
		f.Extents = append(f.Extents, format.Extent{FileOff: uint64(e.off), Object: index(e.obj), ObjectOff: e.objOff, Length: e.length})
	}
	return f
}

// settle computes what records do not say, link counts and parents, and drops
// what no name leads to. It refuses entries that name nothing, and directories
// with two names; all else that can be wrong is the Builder's to find.
func (t *tree) settle() error {
	root := t.nodes[format.RootInode]
	reached := map[uint32]*node{root.inode: root}
	for todo := []*node{root}; len(todo) > 0; {
		n := todo[0]
		todo, n.attr.Nlink = todo[1:], 2
		for name, e := range n.dir.names {
			child := t.nodes[e.inode]
			_, again := reached[e.inode]
			switch {
			case child == nil:
				return wrong("entry %q of directory %d names inode %d, which is not in use", name, n.inode, e.inode)
			case child.isDir() && again:
				return wrong("entry %q of directory %d is a second name of directory %d", name, n.inode, e.inode)
			case child.isDir():
				child.parent = n.inode
				n.attr.Nlink++
				todo = append(todo, child)
			case again:
				child.attr.Nlink++
			default:
				child.attr.Nlink = 1
			}
			reached[e.inode] = child
		}
	}
	t.nodes = reached
	return nil
}

// destroy erases the object keys.
func (t *tree) destroy() {
	for _, k := range t.keys {
		k.Key.Destroy()
	}
}
