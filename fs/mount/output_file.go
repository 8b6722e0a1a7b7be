//go:build linux

package mount

import (
	"syscall"

	"cloister/fs"
	"cloister/fs/format"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// keepFile answers an open. The kernel's pages stay from one open to the next;
// closing what cannot be written to needs no word.
func (o *output) keepFile(out *fuse.OpenOut, f *fs.OutputFile, flags uint32) {
	out.Fh = o.files.keep(f)
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	if flags&syscall.O_ACCMODE == syscall.O_RDONLY {
		out.OpenFlags |= fuse.FOPEN_NOFLUSH
	}
}

func (o *output) Create(_ stop, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	i, err := o.v.Make(inode(in.NodeId), name, newInode(&in.InHeader, format.ModeFile|in.Mode&0o7777))
	return o.created("create", in, out, i, err)
}

func (o *output) Tmpfile(_ stop, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	i, err := o.v.MakeUnnamed(inode(in.NodeId), newInode(&in.InHeader, format.ModeFile|in.Mode&0o7777))
	return o.created("tmpfile", in, out, i, err)
}

func (o *output) created(op string, in *fuse.CreateIn, out *fuse.CreateOut, i fs.Info, err error) fuse.Status {
	if err != nil {
		return o.failures.status(op, err)
	}
	f, err := o.v.Open(i.Inode)
	if err != nil {
		o.v.Forget(i.Inode, 1)
		return o.failures.status(op, err)
	}
	o.keepFile(&out.OpenOut, f, in.Flags)
	o.fillEntry(&out.EntryOut, i)
	return fuse.OK
}

// Open is not told of O_TRUNC: without FUSE_ATOMIC_O_TRUNC the kernel sends a
// SETATTR first.
func (o *output) Open(_ stop, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	f, err := o.v.Open(inode(in.NodeId))
	if err != nil {
		return o.failures.status("open", err)
	}
	o.keepFile(out, f, in.Flags)
	return fuse.OK
}

func (o *output) Release(_ stop, in *fuse.ReleaseIn) {
	if f := o.files.take(in.Fh); f != nil {
		f.Release()
	}
}

// Read answers with all there is: the kernel would take less for the end of
// the file.
func (o *output) Read(_ stop, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	f := o.files.get(in.Fh)
	if f == nil {
		return nil, fuse.EBADF
	}
	n, err := f.ReadAt(ctx(), buf, int64(in.Offset))
	if err != nil {
		return nil, o.failures.status("read", err)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

func (o *output) Write(_ stop, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	return o.Writev(nil, in, [][]byte{data})
}

// Writev writes where the kernel says, with O_APPEND too: it holds the file's
// lock and knows its size.
func (o *output) Writev(_ stop, in *fuse.WriteIn, data [][]byte) (written uint32, status fuse.Status) {
	f := o.files.get(in.Fh)
	if f == nil {
		return 0, fuse.EBADF
	}
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		f.KillSetID()
	}
	for _, p := range data {
		n, err := f.WriteAt(ctx(), p, int64(in.Offset)+int64(written))
		written += uint32(n)
		if err != nil && written == 0 {
			return 0, o.failures.status("write", err)
		}
		if n < len(p) {
			break
		}
	}
	return written, fuse.OK
}

// Flush comes with every close of a descriptor.
func (o *output) Flush(_ stop, in *fuse.FlushIn) fuse.Status {
	f := o.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	return o.failures.status("close", f.Flush(ctx()))
}

func (o *output) Fsync(_ stop, in *fuse.FsyncIn) fuse.Status {
	f := o.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	return o.failures.status("fsync", f.Sync(ctx()))
}

func (o *output) Fallocate(_ stop, in *fuse.FallocateIn) fuse.Status {
	f := o.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	if in.Uid != 0 {
		f.KillSetID()
	}
	return o.failures.status("fallocate", f.Allocate(in.Mode, int64(in.Offset), int64(in.Length)))
}

func (o *output) Lseek(_ stop, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	f := o.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	off, err := f.Lseek(int64(in.Offset), in.Whence)
	out.Offset = uint64(off)
	return o.failures.status("lseek", err)
}

func (o *output) OpenDir(_ stop, in *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	i, err := o.v.GetAttr(inode(in.NodeId))
	if err == nil && i.Attr.Type() != format.ModeDir {
		err = syscall.ENOTDIR
	}
	return o.failures.status("opendir", err)
}

func (o *output) FsyncDir(_ stop, in *fuse.FsyncIn) fuse.Status {
	return o.failures.status("fsyncdir", o.v.SyncDir(ctx(), inode(in.NodeId)))
}

// Offsets of a directory are the cookies of fs, with "." before 1 and ".."
// before 2.
func (o *output) ReadDir(_ stop, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if full, status := o.dots(in, out.AddDirEntry); full || !status.Ok() {
		return status
	}
	err := o.v.ReadDir(inode(in.NodeId), in.Offset, func(e fs.DirEntry) bool { return out.AddDirEntry(dirEntry(e)) })
	return o.failures.status("readdir", err)
}

// ReadDirPlus is ReadDir with a lookup of every name.
func (o *output) ReadDirPlus(_ stop, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	add := func(e fuse.DirEntry) bool { return out.AddDirLookupEntry(e) != nil }
	if full, status := o.dots(in, add); full || !status.Ok() {
		return status
	}
	err := o.v.ReadDirPlus(inode(in.NodeId), in.Offset, func(e fs.DirEntry, i fs.Info) bool {
		entry := out.AddDirLookupEntry(dirEntry(e))
		if entry != nil {
			o.fillEntry(entry, i)
		}
		return entry != nil
	})
	return o.failures.status("readdir", err)
}

func dirEntry(e fs.DirEntry) fuse.DirEntry {
	return fuse.DirEntry{Name: e.Name, Ino: uint64(e.Inode), Mode: e.Mode, Off: e.Cookie}
}

// dots adds "." and "..", where the reader has not had them.
func (o *output) dots(in *fuse.ReadIn, add func(fuse.DirEntry) bool) (full bool, status fuse.Status) {
	if in.Offset < 1 && !add(fuse.DirEntry{Name: ".", Ino: in.NodeId, Mode: format.ModeDir, Off: 1}) {
		return true, fuse.OK
	}
	if in.Offset < 2 {
		parent, err := o.v.Parent(inode(in.NodeId))
		if err != nil {
			return false, o.failures.status("readdir", err)
		}
		return !add(fuse.DirEntry{Name: "..", Ino: uint64(parent.Inode), Mode: format.ModeDir, Off: 2}), fuse.OK
	}
	return false, fuse.OK
}
