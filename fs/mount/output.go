//go:build linux

package mount

import (
	"context"
	"math"
	"syscall"

	"cloister/fs"
	"cloister/fs/format"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Output mounts an output volume at dir and returns when it is being served.
// The caller closes v after the mount has ended: only then is all of it in the
// store.
//
// The kernel's write-back cache is off. With it the kernel, not fs, owns sizes
// and times, holds bytes fs has not seen when an fsync of another name of the
// file comes, and reports a failed write to nobody in particular. Without it a
// write has reached fs when it returns; shared mappings that are written to
// work either way, as the kernel sends their pages before a flush or fsync.
//
// Nothing changes a file but through this kernel, so what it knows it may keep
// for ever: operations that change attributes return them or are known to the
// kernel to make it ask again.
func Output(dir string, v *fs.Output, o Options) (*Mount, error) {
	return start(dir, newOutput(v, o), profile{immutable: true, source: o.Source})
}

// output is the adapter of an output volume: a node id is an inode number, and
// a lookup is a pin.
type output struct {
	fuse.RawFileSystem // refuses what is not served: see output_served.go
	v                  *fs.Output
	failures           *failures
	files              handles[fs.OutputFile]
}

func newOutput(v *fs.Output, o Options) *output {
	return &output{RawFileSystem: fuse.NewDefaultRawFileSystem(), v: v, failures: newFailures(o.Logger)}
}

func (o *output) String() string { return fsType }

// inode returns the inode number that a node id is.
func inode(node uint64) uint32 {
	if node > math.MaxUint32 {
		return 0
	}
	return uint32(node)
}

// ctx is that of every operation. The kernel's interrupts are not passed on: it
// sends one for any signal, and a program that does not expect EINTR from a
// write or an fsync of a file, as no disk gives it, would take it for failure.
// A killed program does not wait for the answer.
func ctx() context.Context { return context.Background() }

func (o *output) fill(out *fuse.Attr, i fs.Info) {
	fillAttr(out, uint64(i.Inode), i.Attr, i.Blocks)
	out.Atime, out.Atimensec = uint64(i.Atime.Sec), i.Atime.Nsec
}

func (o *output) fillEntry(out *fuse.EntryOut, i fs.Info) {
	out.NodeId, out.Generation = uint64(i.Inode), i.Generation
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
	o.fill(&out.Attr, i)
}

func (o *output) entry(op string, out *fuse.EntryOut, i fs.Info, err error) fuse.Status {
	if err != nil {
		return o.failures.status(op, err)
	}
	o.fillEntry(out, i)
	return fuse.OK
}

func (o *output) attr(op string, out *fuse.AttrOut, i fs.Info, err error) fuse.Status {
	if err != nil {
		return o.failures.status(op, err)
	}
	out.SetTimeout(forever)
	o.fill(&out.Attr, i)
	return fuse.OK
}

// Lookup also lets the kernel remember what is not there: it knows what it
// makes.
func (o *output) Lookup(_ stop, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	i, err := o.v.Lookup(inode(h.NodeId), name)
	if err == syscall.ENOENT {
		out.SetEntryTimeout(forever)
		return fuse.OK
	}
	return o.entry("lookup", out, i, err)
}

func (o *output) Forget(node, lookups uint64) { o.v.Forget(inode(node), lookups) }

func (o *output) GetAttr(_ stop, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	i, err := o.v.GetAttr(inode(in.NodeId))
	return o.attr("getattr", out, i, err)
}

func (o *output) SetAttr(_ stop, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	i, err := o.v.SetAttr(inode(in.NodeId), o.change(in))
	return o.attr("setattr", out, i, err)
}

func (o *output) change(in *fuse.SetAttrIn) (c fs.Change) {
	set := func(flag uint32) bool { return in.Valid&flag != 0 }
	c.KillSetID = set(fuse.FATTR_KILL_SUIDGID)
	if set(fuse.FATTR_MODE) {
		c.Mode = &in.Mode
	}
	if set(fuse.FATTR_UID) {
		c.UID = &in.Uid
	}
	if set(fuse.FATTR_GID) {
		c.GID = &in.Gid
	}
	if set(fuse.FATTR_SIZE) {
		c.Size = &in.Size
	}
	if set(fuse.FATTR_ATIME) {
		c.Atime = o.time(set(fuse.FATTR_ATIME_NOW), in.Atime, in.Atimensec)
	}
	if set(fuse.FATTR_MTIME) {
		c.Mtime = o.time(set(fuse.FATTR_MTIME_NOW), in.Mtime, in.Mtimensec)
	}
	return c
}

func (o *output) time(now bool, sec uint64, nsec uint32) *format.Time {
	t := format.Time{Sec: int64(sec), Nsec: min(nsec, 1e9-1)}
	if now {
		t = o.v.Now()
	}
	return &t
}

func (o *output) Readlink(_ stop, h *fuse.InHeader) ([]byte, fuse.Status) {
	target, err := o.v.Readlink(inode(h.NodeId))
	return target, o.failures.status("readlink", err)
}

// New inodes belong to who asks; the kernel has applied the umask.
func newInode(h *fuse.InHeader, mode uint32) fs.New {
	return fs.New{Mode: mode, UID: h.Uid, GID: h.Gid}
}

func (o *output) Mknod(_ stop, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	what := newInode(&in.InHeader, in.Mode)
	what.Rdev = in.Rdev
	i, err := o.v.Make(inode(in.NodeId), name, what)
	return o.entry("mknod", out, i, err)
}

func (o *output) Mkdir(_ stop, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	i, err := o.v.Make(inode(in.NodeId), name, newInode(&in.InHeader, format.ModeDir|in.Mode&0o7777))
	return o.entry("mkdir", out, i, err)
}

func (o *output) Symlink(_ stop, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	what := newInode(h, format.ModeSymlink|0o777)
	what.Target = target
	i, err := o.v.Make(inode(h.NodeId), name, what)
	return o.entry("symlink", out, i, err)
}

func (o *output) Link(_ stop, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	i, err := o.v.Link(inode(in.Oldnodeid), inode(in.NodeId), name)
	return o.entry("link", out, i, err)
}

func (o *output) Unlink(_ stop, h *fuse.InHeader, name string) fuse.Status {
	return o.failures.status("unlink", o.v.Unlink(inode(h.NodeId), name))
}

func (o *output) Rmdir(_ stop, h *fuse.InHeader, name string) fuse.Status {
	return o.failures.status("rmdir", o.v.Rmdir(inode(h.NodeId), name))
}

func (o *output) Rename(_ stop, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	return o.failures.status("rename", o.v.Rename(inode(in.NodeId), oldName, inode(in.Newdir), newName, in.Flags))
}

func (o *output) GetXAttr(_ stop, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	value, err := o.v.GetXattr(inode(h.NodeId), name)
	if err != nil {
		return 0, o.failures.status("getxattr", err)
	}
	return copyXattr(dest, value)
}

func (o *output) ListXAttr(_ stop, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	names, err := o.v.ListXattr(inode(h.NodeId))
	if err != nil {
		return 0, o.failures.status("listxattr", err)
	}
	var list []byte
	for _, name := range names {
		list = append(append(list, name...), 0)
	}
	return copyXattr(dest, list)
}

func (o *output) SetXAttr(_ stop, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	return o.failures.status("setxattr", o.v.SetXattr(inode(in.NodeId), name, value, in.Flags))
}

func (o *output) RemoveXAttr(_ stop, h *fuse.InHeader, name string) fuse.Status {
	return o.failures.status("removexattr", o.v.RemoveXattr(inode(h.NodeId), name))
}

func (o *output) StatFs(_ stop, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	u := o.v.StatFS()
	const block = 4096
	out.Bsize, out.Frsize, out.NameLen = block, block, format.MaxName
	out.Bfree = u.FreeBytes / block
	out.Bavail, out.Blocks = out.Bfree, out.Bfree+(u.Bytes+block-1)/block
	out.Ffree, out.Files = u.FreeInodes, u.FreeInodes+u.Inodes
	return fuse.OK
}
