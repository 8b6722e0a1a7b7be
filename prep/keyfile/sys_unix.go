//go:build unix

package keyfile

import (
	"os"

	"cloister/internal/fault"
)

// checkPrivate refuses a file that others than its owner may read or change.
func checkPrivate(what, path string, info os.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fault.Errorf(fault.Refused, "chmod 600 "+path+", and consider who may have read it",
			"%s %s is open to others: its mode is %04o", what, path, mode)
	}
	return nil
}

// syncDir makes a new name in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
