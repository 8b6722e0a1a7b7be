//go:build unix

package tree

import (
	"os"

	"golang.org/x/sys/unix"

	"cloister/fs/format"
)

// Node makes a fifo, socket or device named name in the directory dir. made is
// false for a device that Options do not allow.
func Node(dir *os.File, name string, a format.Attr, o Options) (made bool, err error) {
	t := a.Type()
	if isDevice := t == format.ModeChar || t == format.ModeBlock; isDevice && !o.Special {
		return false, nil
	}
	return true, mknodat(int(dir.Fd()), name, t|0o600, decodeDevice(a.Rdev))
}

// Restore gives what is named name in dir its owner, extended attributes, mode
// and modification time, in the order in which none undoes another: a change
// of owner clears setuid bits, a mode may forbid setting attributes.
func Restore(dir *os.File, name string, a format.Attr, attrs []format.Xattr, o Options) error {
	fd := int(dir.Fd())
	if o.Owner {
		if err := unix.Fchownat(fd, name, int(a.UID), int(a.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	if len(attrs) > 0 {
		if err := setXattrs(fd, name, attrs); err != nil {
			return err
		}
	}
	if a.Type() != format.ModeSymlink {
		if err := unix.Fchmodat(fd, name, o.permissions(a), 0); err != nil {
			return err
		}
	}
	return setTime(fd, name, a.Mtime)
}
