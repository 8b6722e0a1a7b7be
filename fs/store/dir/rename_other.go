//go:build !linux

package dir

import (
	"errors"
	"os"
)

// renameNew is refused: only Linux's rename is known to refuse a taken name on
// every file system that has no hard links.
func renameNew(*os.Root, string, string) error { return errors.ErrUnsupported }
