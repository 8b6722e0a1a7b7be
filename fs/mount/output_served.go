//go:build linux

package mount

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// What an output mount serves:
//
//	LOOKUP FORGET GETATTR SETATTR READLINK MKNOD MKDIR SYMLINK LINK UNLINK
//	RMDIR RENAME (plain, NOREPLACE, EXCHANGE) GETXATTR LISTXATTR SETXATTR
//	REMOVEXATTR CREATE TMPFILE OPEN READ WRITE FLUSH FSYNC RELEASE LSEEK
//	FALLOCATE (allocate, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE) OPENDIR READDIR
//	READDIRPLUS FSYNCDIR STATFS
//
// What it need not answer: ACCESS (default_permissions: the kernel decides),
// RELEASEDIR (nothing is kept), STATX (GETATTR says all there is), INTERRUPT
// (see ctx), SYNCFS (the kernel sends it to virtiofs only: sync(2) flushes
// mappings into fs and no further; fsync does what it says).
//
// What it refuses:
//
//	RENAME with WHITEOUT                          EINVAL
//	FALLOCATE with COLLAPSE, INSERT, UNSHARE      EOPNOTSUPP
//	SETXATTR of system.* (access control lists)   EOPNOTSUPP
//	COPY_FILE_RANGE       ENOSYS: the kernel copies by itself then
//	IOCTL                 ENOTTY
//	GETLK SETLK SETLKW    not asked: without FUSE_*_LOCKS the kernel keeps
//	                      locks itself, and all users are on this machine
var _ fuse.RawFileSystem = (*output)(nil)

func (o *output) Access(stop, *fuse.AccessIn) fuse.Status { return fuse.ENOSYS }
func (o *output) CopyFileRange(stop, *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS
}
func (o *output) Ioctl(stop, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(syscall.ENOTTY)
}
