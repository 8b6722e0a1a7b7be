//go:build linux

package mount

import (
	"io"
	"slices"
	"sync"
	"syscall"

	"cloister/fs"
	"cloister/fs/format"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Input mounts an input volume read-only at dir and returns when it is being
// served. As root other users may enter, under the modes and owners that the
// volume says. The caller closes v after the mount has ended.
func Input(dir string, v *fs.Volume, o Options) (*Mount, error) {
	return start(dir, newInput(v, o), profile{readOnly: true, immutable: true, source: o.Source})
}

// input is the adapter of an input volume: a node id is an inode number, so
// nothing is kept for a file that is not open.
type input struct {
	fuse.RawFileSystem // refuses what is not served: see served.go
	v                  *fs.Volume
	m                  *format.Manifest
	failures           *failures
	names              bool // Options.Names
	usage              func() usage
	owner              *Owner // nil: the volume's
	guess              statGuess

	mu    sync.Mutex // guards files and free
	files []*fs.File // by handle; nil where the handle is free
	free  []uint64
}

func newInput(v *fs.Volume, o Options) *input {
	return &input{RawFileSystem: fuse.NewDefaultRawFileSystem(), v: v, m: v.Manifest(),
		owner: o.Owner, failures: newFailures(o.Logger), names: o.Names,
		usage: sync.OnceValue(func() usage { return measure(v.Manifest()) })}
}

func (i *input) String() string { return fsType }

// attr returns an inode's attributes and ESTALE for one the volume has not.
func (i *input) attr(node uint64) (format.Attr, fuse.Status) {
	if node > uint64(i.m.Inodes()) {
		return format.Attr{}, fuse.Status(syscall.ESTALE)
	}
	a, ok := i.m.Attr(uint32(node))
	if !ok {
		return a, fuse.Status(syscall.ESTALE)
	}
	return a, fuse.OK
}

// is refuses an inode that is not of a type.
func (i *input) is(node uint64, mode uint32, otherwise syscall.Errno) fuse.Status {
	a, status := i.attr(node)
	if status.Ok() && a.Type() != mode {
		return fuse.Status(otherwise)
	}
	return status
}

func (i *input) fillEntry(out *fuse.EntryOut, inode uint32) {
	a, _ := i.m.Attr(inode)
	out.NodeId = uint64(inode)
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
	i.fill(&out.Attr, inode, a)
}

func (i *input) fill(out *fuse.Attr, inode uint32, a format.Attr) {
	if i.owner != nil {
		a.UID, a.GID = i.owner.UID, i.owner.GID
	}
	fillAttr(out, uint64(inode), a, i.blocks(inode, a))
}

// blocks returns how many 512-byte blocks of a file are not a hole.
func (i *input) blocks(inode uint32, a format.Attr) (blocks uint64) {
	if a.Type() != format.ModeFile {
		return 0
	}
	for e := range i.m.Extents(inode, 0) {
		blocks += uint64(e.Length)
	}
	return (blocks + 511) / 512
}

// Lookup also lets the kernel remember what is not there: nothing will appear.
func (i *input) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if status := i.is(h.NodeId, format.ModeDir, syscall.ENOTDIR); !status.Ok() {
		return status
	}
	if len(name) > format.MaxName {
		return fuse.Status(syscall.ENAMETOOLONG)
	}
	inode, ok := i.m.Lookup(uint32(h.NodeId), []byte(name))
	if !ok {
		out.SetEntryTimeout(forever)
		return fuse.OK
	}
	i.fillEntry(out, inode)
	i.guess.lookedUp(out.Mode)
	return fuse.OK
}

func (i *input) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	a, status := i.attr(in.NodeId)
	if status.Ok() {
		out.SetTimeout(forever)
		i.fill(&out.Attr, uint32(in.NodeId), a)
	}
	return status
}

func (i *input) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	if status := i.is(h.NodeId, format.ModeSymlink, syscall.EINVAL); !status.Ok() {
		return nil, status
	}
	return slices.Clone(i.m.Target(uint32(h.NodeId))), fuse.OK
}

func (i *input) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	if _, status := i.attr(h.NodeId); !status.Ok() {
		return 0, status
	}
	for _, x := range i.m.Xattrs(uint32(h.NodeId)) {
		if x.Name == name {
			return copyXattr(dest, x.Value)
		}
	}
	return 0, fuse.ENOATTR
}

func (i *input) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	if _, status := i.attr(h.NodeId); !status.Ok() {
		return 0, status
	}
	var names []byte
	for _, x := range i.m.Xattrs(uint32(h.NodeId)) {
		names = append(append(names, x.Name...), 0)
	}
	return copyXattr(dest, names)
}

// Open keeps the kernel's pages from one open to the next, and spares the flush
// at close: there is nothing to flush.
func (i *input) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return fuse.EROFS
	}
	if status := i.is(in.NodeId, format.ModeFile, syscall.EINVAL); !status.Ok() {
		return status
	}
	out.Fh = i.keep(i.v.Open(uint32(in.NodeId)))
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH
	return fuse.OK
}

func (i *input) keep(f *fs.File) uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if n := len(i.free); n > 0 {
		handle := i.free[n-1]
		i.free = i.free[:n-1]
		i.files[handle] = f
		return handle
	}
	i.files = append(i.files, f)
	return uint64(len(i.files) - 1)
}

func (i *input) file(handle uint64) *fs.File {
	i.mu.Lock()
	defer i.mu.Unlock()
	if handle >= uint64(len(i.files)) {
		return nil
	}
	return i.files[handle]
}

func (i *input) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	f := i.file(in.Fh)
	if f == nil {
		return
	}
	f.Close()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.files[in.Fh] = nil
	i.free = append(i.free, in.Fh)
}

// Read fills the memory the reply is sent from. It never answers with less than
// the file has: the kernel would take that for the end of the file, cut its
// idea of the size, and show zeros.
func (i *input) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	f := i.file(in.Fh)
	if f == nil {
		return nil, fuse.EBADF
	}
	n, err := f.ReadAt(&fuse.Context{Cancel: cancel}, buf, int64(in.Offset))
	if err != nil && err != io.EOF {
		return nil, i.failures.status("read", i.named(in.NodeId, err))
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// Lseek finds data and holes; the kernel does the other seeks itself.
func (i *input) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	a, status := i.attr(in.NodeId)
	if !status.Ok() {
		return status
	}
	if a.Type() != format.ModeFile || in.Offset >= a.Size {
		return fuse.Status(syscall.ENXIO)
	}
	off := in.Offset
	for e := range i.m.Extents(uint32(in.NodeId), in.Offset) {
		switch {
		case in.Whence == seekData:
			out.Offset = max(off, e.FileOff)
			return fuse.OK
		case e.FileOff > off:
			out.Offset = off
			return fuse.OK
		}
		off = e.End()
	}
	if in.Whence == seekData {
		return fuse.Status(syscall.ENXIO)
	}
	out.Offset = off
	return fuse.OK
}

const seekData = 3 // SEEK_DATA, <linux/i.h>; the only other is SEEK_HOLE

// StatFs shows a full file system of the volume's size.
func (i *input) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	u := i.usage()
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, format.MaxName
	out.Blocks, out.Files = (u.bytes+4095)/4096, u.inodes
	return fuse.OK
}

type usage struct{ bytes, inodes uint64 }

func measure(m *format.Manifest) (u usage) {
	for inode := uint32(1); inode <= m.Inodes(); inode++ {
		if a, ok := m.Attr(inode); ok {
			u.bytes += a.Size
			u.inodes++
		}
	}
	return u
}
