package tree

import (
	"bytes"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"cloister/fs/format"
)

func ctime(st *syscall.Stat_t) format.Time {
	sec, nsec := st.Ctim.Unix()
	return format.Time{Sec: sec, Nsec: uint32(nsec)}
}

// xattrs returns the user's extended attributes: those of other name spaces
// belong to the system that the file is on.
func xattrs(path string) ([]format.Xattr, error) {
	names, err := xattrBytes(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if errors.Is(err, unix.ENOTSUP) || len(names) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var attrs []format.Xattr
	for name := range bytes.SplitSeq(names, []byte{0}) {
		if !bytes.HasPrefix(name, []byte("user.")) {
			continue
		}
		value, err := xattrBytes(func(b []byte) (int, error) { return unix.Lgetxattr(path, string(name), b) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		attrs = append(attrs, format.Xattr{Name: string(name), Value: value})
	}
	return attrs, nil
}

// xattrBytes calls get with nothing to learn the length, then with as much,
// and again where the value grew in between.
func xattrBytes(get func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := get(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		n, err = get(b)
		if !errors.Is(err, unix.ERANGE) {
			return b[:max(n, 0)], err
		}
	}
}
