//go:build linux

package mount

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// What an input mount serves:
//
//	LOOKUP GETATTR READLINK GETXATTR LISTXATTR OPEN READ RELEASE LSEEK
//	OPENDIR READDIR READDIRPLUS STATFS
//
// What it need not answer: FORGET (a node id is an inode number, nothing is
// kept), ACCESS (default_permissions: the kernel decides), FLUSH, FSYNC and
// FSYNCDIR (nothing is ever unsaved), RELEASEDIR, STATX (GETATTR says all
// there is), INTERRUPT (go-fuse hands it to the request).
//
// What it refuses, though the kernel, knowing that the mount is read-only,
// hardly ever asks:
//
//	SETATTR MKNOD MKDIR UNLINK RMDIR RENAME LINK SYMLINK SETXATTR
//	REMOVEXATTR CREATE TMPFILE WRITE FALLOCATE COPY_FILE_RANGE       EROFS
//	IOCTL                                                            ENOTTY
//	GETLK SETLK SETLKW     not asked: without FUSE_*_LOCKS the kernel
//	                       keeps locks itself, on this machine
var _ fuse.RawFileSystem = (*input)(nil)

const readOnly = fuse.Status(syscall.EROFS)

type stop = <-chan struct{}

func (i *input) Access(stop, *fuse.AccessIn) fuse.Status                 { return fuse.ENOSYS }
func (i *input) Flush(stop, *fuse.FlushIn) fuse.Status                   { return fuse.OK }
func (i *input) Fsync(stop, *fuse.FsyncIn) fuse.Status                   { return fuse.OK }
func (i *input) FsyncDir(stop, *fuse.FsyncIn) fuse.Status                { return fuse.OK }
func (i *input) Write(stop, *fuse.WriteIn, []byte) (uint32, fuse.Status) { return 0, readOnly }
func (i *input) Writev(stop, *fuse.WriteIn, [][]byte) (uint32, fuse.Status) {
	return 0, readOnly
}
func (i *input) SetAttr(stop, *fuse.SetAttrIn, *fuse.AttrOut) fuse.Status { return readOnly }
func (i *input) Mknod(stop, *fuse.MknodIn, string, *fuse.EntryOut) fuse.Status {
	return readOnly
}
func (i *input) Mkdir(stop, *fuse.MkdirIn, string, *fuse.EntryOut) fuse.Status {
	return readOnly
}
func (i *input) Unlink(stop, *fuse.InHeader, string) fuse.Status { return readOnly }
func (i *input) Rmdir(stop, *fuse.InHeader, string) fuse.Status  { return readOnly }
func (i *input) Rename(stop, *fuse.RenameIn, string, string) fuse.Status {
	return readOnly
}
func (i *input) Link(stop, *fuse.LinkIn, string, *fuse.EntryOut) fuse.Status {
	return readOnly
}
func (i *input) Symlink(stop, *fuse.InHeader, string, string, *fuse.EntryOut) fuse.Status {
	return readOnly
}
func (i *input) SetXAttr(stop, *fuse.SetXAttrIn, string, []byte) fuse.Status {
	return readOnly
}
func (i *input) RemoveXAttr(stop, *fuse.InHeader, string) fuse.Status { return readOnly }
func (i *input) Create(stop, *fuse.CreateIn, string, *fuse.CreateOut) fuse.Status {
	return readOnly
}
func (i *input) Tmpfile(stop, *fuse.CreateIn, *fuse.CreateOut) fuse.Status { return readOnly }
func (i *input) Fallocate(stop, *fuse.FallocateIn) fuse.Status             { return readOnly }
func (i *input) CopyFileRange(stop, *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	return 0, readOnly
}
func (i *input) Ioctl(stop, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(syscall.ENOTTY)
}
