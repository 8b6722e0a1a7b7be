package tree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cloister/fs/format"
)

// Options say how much of what a volume describes Restore makes.
type Options struct {
	// Special allows devices, and the setuid and setgid bits.
	Special bool
	// Owner gives files to the users and groups that the volume names; the
	// process must be root.
	Owner bool
}

// Local reports whether an entry may be made under this name here: Windows
// reads more into a name than a volume's format does.
func Local(name string) bool {
	return !strings.ContainsRune(name, os.PathSeparator) && filepath.IsLocal(name)
}

// RemoveAll removes a tree that was only half made, directories without write
// permission included.
func RemoveAll(path string) error {
	err := os.RemoveAll(path)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(path)
}

// permissions returns the mode to set: without the dangerous bits unless asked.
func (o Options) permissions(a format.Attr) uint32 {
	mode := a.Mode & 0o7777
	if !o.Special {
		mode &^= 0o6000
	}
	return mode
}
