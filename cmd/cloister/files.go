package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"cloister/internal/fault"
	"cloister/prep/tree"
)

// replaceFile puts data in a file at once: a reader, and a crash, sees the old
// bytes or the new ones. An existing file's permissions stay.
func replaceFile(path string, data []byte) error {
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".cloister-*")
	if err != nil {
		return tree.Explain("writing", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return tree.Explain("writing", path, err)
	}
	return nil
}

// createFile writes a new file, whole or not at all, and refuses to touch one
// that is there.
func createFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fault.Errorf(fault.Conflict, "choose another name, or see what is there and remove it first", "%s is already there", path)
	}
	if err != nil {
		return tree.Explain("writing", path, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(path)
		return tree.Explain("writing", path, err)
	}
	return nil
}
