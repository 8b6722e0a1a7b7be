//go:build linux

package mount

import (
	"time"

	"cloister/fs/format"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// forever is how long the kernel keeps what cannot change. It turns seconds
// into jiffies and stops at its own maximum, so any large number does.
const forever = 10 * 365 * 24 * time.Hour

// fillAttr translates an inode's attributes. blocks is in units of 512 bytes,
// as st_blocks is. There is no access time in the format: the modification
// time stands in.
func fillAttr(out *fuse.Attr, inode uint64, a format.Attr, blocks uint64) {
	*out = fuse.Attr{
		Ino: inode, Mode: a.Mode, Nlink: a.Nlink, Owner: fuse.Owner{Uid: a.UID, Gid: a.GID},
		Size: a.Size, Blocks: blocks, Rdev: a.Rdev,
		Mtime: uint64(a.Mtime.Sec), Mtimensec: a.Mtime.Nsec,
		Atime: uint64(a.Mtime.Sec), Atimensec: a.Mtime.Nsec,
		Ctime: uint64(a.Ctime.Sec), Ctimensec: a.Ctime.Nsec,
	}
}

// copyXattr answers getxattr and listxattr: the value where it fits in dest,
// its length where dest is empty, and ERANGE where it is too small.
func copyXattr(dest, value []byte) (uint32, fuse.Status) {
	if len(dest) < len(value) {
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}
