package tree

import (
	"syscall"

	"cloister/fs/format"
)

func ctime(st *syscall.Stat_t) format.Time {
	return format.Time{Sec: st.Ctimespec.Sec, Nsec: uint32(st.Ctimespec.Nsec)}
}

// xattrs are read on Linux only: elsewhere no name begins with "user." and
// means the user's.
func xattrs(string) ([]format.Xattr, error) { return nil, nil }
