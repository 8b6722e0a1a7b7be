//go:build !unix

package tree

import (
	"os"
	"time"

	"cloister/fs/format"
)

// Node makes nothing: there are no such files here.
func Node(*os.File, string, format.Attr, Options) (made bool, err error) { return false, nil }

// Restore sets the modification time and whether the owner may write.
func Restore(dir *os.File, name string, a format.Attr, _ []format.Xattr, o Options) error {
	if a.Type() == format.ModeSymlink {
		return nil
	}
	path := Join(dir.Name(), name)
	t := time.Unix(a.Mtime.Sec, int64(a.Mtime.Nsec))
	if err := os.Chtimes(path, time.Time{}, t); err != nil {
		return err
	}
	return os.Chmod(path, FileMode(o.permissions(a)))
}

// Sync does nothing: there is no such call here.
func Sync(*os.File) error { return nil }
