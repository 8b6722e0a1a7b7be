package tree

import (
	"os"

	"golang.org/x/sys/unix"

	"cloister/fs/format"
)

func mknodat(int, string, uint32, uint64) error { return unix.ENOTSUP }

func setTime(fd int, name string, t format.Time) error {
	ts := unix.NsecToTimespec(t.Sec*1e9 + int64(t.Nsec))
	return unix.UtimesNanoAt(fd, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// setXattrs sets none: they are kept on Linux only.
func setXattrs(int, string, []format.Xattr) error { return nil }

// Sync makes a directory's names durable; the files in it were synced by their
// writer.
func Sync(dir *os.File) error { return dir.Sync() }
