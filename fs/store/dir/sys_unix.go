//go:build unix

package dir

import (
	"errors"
	"syscall"

	"cloister/internal/fault"
)

// openFlags keep a FIFO that has taken an object's name from holding the open
// for ever; os.Root adds O_NOFOLLOW and O_CLOEXEC itself.
const openFlags = syscall.O_NONBLOCK

// syncDir makes the names in a directory durable.
func (s *Store) syncDir(name string) error {
	d, err := s.root.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) {
		err = nil // a file system that cannot sync a directory
	}
	return errors.Join(err, d.Close())
}

// noHardLinks reports whether a link failed because this file system has none.
// Linux says EPERM for that, and so do file systems that forbid them.
func noHardLinks(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP) ||
		errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EMLINK)
}

func classifySystem(err error) (fault.Kind, string) {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.Unavailable, "the disk or the quota is full: free some space and run the command again"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fault.Unavailable, "too many files are open: raise the limit (ulimit -n)"
	case errors.Is(err, syscall.EROFS):
		return fault.Denied, "the file system is mounted read-only"
	case errors.Is(err, syscall.ENOTDIR):
		return fault.Usage, "name a directory"
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.ESTALE):
		return fault.Unavailable, "the disk or the network file system failed: see the system's log"
	case errors.Is(err, errors.ErrUnsupported):
		return fault.Unavailable, "keep the volume on a file system with hard links, or upload it to a blob container"
	}
	return fault.Internal, ""
}
