//go:build linux

package mount

import (
	"syscall"

	"cloister/fs/format"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A directory's entries have offsets 0 for ".", 1 for "..", and from 2 on the
// index in the manifest's run. They never change, so a listing can be resumed
// anywhere, also by seekdir.

// OpenDir lets the kernel keep listings.
func (i *input) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_CACHE_DIR
	return i.is(in.NodeId, format.ModeDir, syscall.ENOTDIR)
}

func (i *input) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return i.list(in, func(e fuse.DirEntry, _ uint32) bool { return out.AddDirEntry(e) })
}

// ReadDirPlus gives attributes along where they are wanted: for directories,
// which a walk enters, and for the rest where whoever lists asks for them. ".",
// "..", and what has no attributes given (node id 0) the kernel does not take
// note of: it looks them up when somebody asks.
func (i *input) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	batch := i.guess.listing(in.Offset == 0)
	return i.list(in, func(e fuse.DirEntry, inode uint32) bool {
		entry := out.AddDirLookupEntry(e)
		if entry != nil && inode != 0 && batch.gives(e.Mode) {
			i.fillEntry(entry, inode)
		}
		return entry != nil
	})
}

// list calls add with the entries from in.Offset on until it returns false.
// inode is 0 for "." and "..".
func (i *input) list(in *fuse.ReadIn, add func(e fuse.DirEntry, inode uint32) bool) fuse.Status {
	if status := i.is(in.NodeId, format.ModeDir, syscall.ENOTDIR); !status.Ok() {
		return status
	}
	dir := uint32(in.NodeId)
	first, end := i.m.Entries(dir)
	for off := in.Offset; off < uint64(end-first)+2; off++ {
		e := fuse.DirEntry{Mode: format.ModeDir, Off: off + 1}
		var inode uint32
		switch off {
		case 0:
			e.Name, e.Ino = ".", in.NodeId
		case 1:
			e.Name, e.Ino = "..", uint64(i.m.Parent(dir))
		default:
			var name []byte
			name, inode = i.m.Entry(first + uint32(off-2))
			a, _ := i.m.Attr(inode)
			e.Name, e.Ino, e.Mode = string(name), uint64(inode), a.Mode
		}
		if !add(e, inode) {
			break
		}
	}
	return fuse.OK
}
