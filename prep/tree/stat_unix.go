//go:build unix

package tree

import (
	"errors"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// O_NONBLOCK has no effect on files; it keeps the open from waiting at a fifo.
const openFlags = unix.O_NOFOLLOW | unix.O_NONBLOCK

func isLoop(err error) bool { return errors.Is(err, unix.ELOOP) }

// fillSystem sets what io/fs does not have.
func fillSystem(e *Entry, info fs.FileInfo) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	e.Attr.UID, e.Attr.GID = st.Uid, st.Gid
	e.Attr.Ctime = ctime(st)
	e.Inode = Inode{uint64(st.Dev), st.Ino}
	e.Shared = st.Nlink > 1 && e.Attr.Type() != format.ModeDir
	// 512 is the unit of st_blocks on every Unix.
	e.Sparse = e.Attr.Type() == format.ModeFile && int64(st.Blocks)*512 < st.Size
	if t := e.Attr.Type(); t == format.ModeChar || t == format.ModeBlock {
		e.Attr.Rdev = encodeDevice(uint64(st.Rdev))
	}
}

// encodeDevice packs a device number as Linux encodes it in 32 bits
// (new_encode_dev in include/linux/kdev_t.h).
func encodeDevice(dev uint64) uint32 {
	major, minor := unix.Major(dev), unix.Minor(dev)
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// decodeDevice returns the number that this system's mknod takes.
func decodeDevice(dev uint32) uint64 {
	return unix.Mkdev(dev>>8&0xfff, dev&0xff|dev>>12&0xfff00)
}

func classifySystem(err error) (fault.Kind, string) {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fault.Unavailable, "free some space, or name a place on another disk, and run the command again"
	case errors.Is(err, unix.EROFS):
		return fault.Denied, "name a place that can be written to"
	case errors.Is(err, unix.ENAMETOOLONG):
		return fault.Usage, "the system takes paths of up to 4,095 bytes: run the command from a folder further down"
	case errors.Is(err, unix.ENOTDIR):
		return fault.Usage, "name a directory"
	case errors.Is(err, unix.EIO):
		return fault.Unavailable, "the disk fails: see the system's log"
	}
	return fault.Internal, ""
}
