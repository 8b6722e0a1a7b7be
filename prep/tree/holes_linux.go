package tree

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Data yields the ranges of a file that are not holes, ascending, up to size.
// A file system that does not know answers with the whole file.
func Data(f *os.File, size int64, yield func(off, length int64) error) error {
	fd := int(f.Fd())
	for off := int64(0); off < size; {
		start, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && start >= size {
			return nil // a hole up to the end
		}
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
			return yield(off, size-off)
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(fd, start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		end = min(end, size)
		if err := yield(start, end-start); err != nil {
			return err
		}
		off = end
	}
	return nil
}
