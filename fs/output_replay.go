package fs

import (
	"fmt"
	"slices"

	"cloister/fs/format"
)

// replay applies the operations of journal records to a tree. The records are
// authentic and still a stranger's: each operation is checked as far as the
// tree would otherwise be left inconsistent in itself; settle and the Builder
// check the outcome.
type replay struct {
	*tree
	fenced bool // the record applied last had a fence
}

var _ format.Replayer = (*replay)(nil)

func wrong(text string, args ...any) error {
	return fmt.Errorf("%w: %s", format.ErrMalformed, fmt.Sprintf(text, args...))
}

// Key takes the next slot.
func (r *replay) Key(k format.Key) error {
	if len(r.keys) >= format.MaxKeys {
		return wrong("a record adds a key beyond the limit")
	}
	r.keys = append(r.keys, k)
	return nil
}

// Object takes the next index.
func (r *replay) Object(o format.Object) error {
	if len(r.objects) >= format.MaxObjects || int64(o.Key) >= int64(len(r.keys)) || o.Place != 0 {
		return wrong("a record adds object %s with key %d in place %d", o.ID, o.Key, o.Place)
	}
	r.objects = append(r.objects, &dataObject{Object: o, name: format.ObjectName(o.ID), index: uint32(len(r.objects)), journaled: true})
	return nil
}

// Inode replaces what an inode was. A directory keeps its names.
func (r *replay) Inode(inode uint32, f format.Node) error {
	n := &node{inode: inode, attr: f.Attr, atime: f.Attr.Mtime, target: slices.Clone(f.Target), journaled: true}
	for _, e := range f.Extents {
		if int64(e.Object) >= int64(len(r.objects)) || e.Length == 0 || e.FileOff > 1<<62 {
			return wrong("a record gives inode %d an extent in object %d", inode, e.Object)
		}
		n.extents = append(n.extents, extent{int64(e.FileOff), e.Length, e.ObjectOff, r.objects[e.Object]})
	}
	n.setXattrs(f.Xattrs)
	old := r.nodes[inode]
	switch {
	case n.isDir() && old != nil && old.isDir():
		n.dir, n.parent = old.dir, old.parent
	case n.isDir():
		n.dir = newDirectory()
	case inode == format.RootInode || old != nil && old.isDir():
		return wrong("a record makes directory %d something else", inode)
	}
	if inode == format.RootInode {
		n.parent = inode
	}
	r.nodes[inode] = n
	return nil
}

// Link sets an entry of a directory.
func (r *replay) Link(dir uint32, name []byte, inode uint32) error {
	d, n := r.nodes[dir], r.nodes[inode]
	if d == nil || !d.isDir() || n == nil {
		return wrong("a record names inode %d in %d", inode, dir)
	}
	d.dir.set(string(name), inode)
	return nil
}

// Unlink removes an entry of a directory.
func (r *replay) Unlink(dir uint32, name []byte) error {
	d := r.nodes[dir]
	if d == nil || !d.isDir() || d.dir.get(string(name)) == 0 {
		return wrong("a record removes %q from %d, which has no such entry", name, dir)
	}
	d.dir.remove(string(name))
	return nil
}

// Free removes an inode.
func (r *replay) Free(inode uint32) error {
	if r.nodes[inode] == nil || inode == format.RootInode {
		return wrong("a record frees inode %d", inode)
	}
	delete(r.nodes, inode)
	return nil
}

// Fence says that the run before wrote no more.
func (r *replay) Fence() error {
	r.fenced = true
	return nil
}
