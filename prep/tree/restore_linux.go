package tree

import (
	"os"

	"golang.org/x/sys/unix"

	"cloister/fs/format"
)

func mknodat(fd int, name string, mode uint32, dev uint64) error {
	return unix.Mknodat(fd, name, mode, int(dev))
}

func setTime(fd int, name string, t format.Time) error {
	ts := unix.Timespec{Sec: t.Sec, Nsec: int64(t.Nsec)}
	return unix.UtimesNanoAt(fd, name, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// setXattrs opens what it changes: only the calls that take a path or an open
// file set attributes. Files and directories alone have any of the user's.
func setXattrs(dir int, name string, attrs []format.Xattr) error {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, x := range attrs {
		if err := unix.Fsetxattr(fd, x.Name, x.Value, 0); err != nil {
			return err
		}
	}
	return nil
}

// Sync makes all of the file system that dir is on durable.
func Sync(dir *os.File) error { return unix.Syncfs(int(dir.Fd())) }
