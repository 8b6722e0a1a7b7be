package dir

import (
	"errors"

	"cloister/internal/fault"

	"golang.org/x/sys/windows"
)

const openFlags = 0

// syncDir does nothing: Windows journals names itself and has no such call.
func (s *Store) syncDir(string) error { return nil }

func noHardLinks(err error) bool {
	return errors.Is(err, windows.ERROR_INVALID_FUNCTION) || errors.Is(err, windows.ERROR_NOT_SUPPORTED)
}

func classifySystem(err error) (fault.Kind, string) {
	switch {
	case errors.Is(err, windows.ERROR_DISK_FULL), errors.Is(err, windows.ERROR_HANDLE_DISK_FULL):
		return fault.Unavailable, "the disk is full: free some space and run the command again"
	case errors.Is(err, errors.ErrUnsupported):
		return fault.Unavailable, "keep the volume on a file system with hard links, such as NTFS, or upload it to a blob container"
	}
	return fault.Internal, ""
}
