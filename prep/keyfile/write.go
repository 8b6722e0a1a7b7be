package keyfile

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// Write makes a key file of mode 0600 that holds secret, under the passphrase
// if there is one (nil: none). The file appears whole and durable or not at
// all; one that is already there is an error of kind Conflict.
func Write(path string, secret *format.RootSecret, p *Passphrase) error {
	data, err := encode(secret, p, workFactor)
	if err != nil {
		return err
	}
	defer clear(data)
	return create(path, data)
}

func encode(secret *format.RootSecret, p *Passphrase, workFactor int) ([]byte, error) {
	line := encodeLine(secret)
	defer clear(line)
	if p == nil {
		return append([]byte(plainComment), line...), nil
	}
	locked, err := lock(line, p, workFactor)
	return append([]byte(lockedComment), locked...), err
}

// create writes a temporary file beside path and links it to its name, which
// fails if the name is taken.
func create(path string, data []byte) error {
	if _, err := os.Lstat(path); err == nil {
		return taken(path)
	}
	temp := filepath.Join(filepath.Dir(path), ".cloister-key-"+rand.Text())
	defer os.Remove(temp)
	if err := writeTemp(temp, data); err != nil {
		return explain("writing key file", path, "", err)
	}
	err := os.Link(temp, path)
	if errors.Is(err, os.ErrExist) {
		return taken(path)
	}
	if err != nil {
		err = claim(temp, path)
	}
	if err != nil {
		return explain("writing key file", path, "", err)
	}
	return syncDir(filepath.Dir(path))
}

// claim is for file systems without hard links: it takes the name with an
// empty file, which no reader takes for a key, and moves the whole one over it.
func claim(temp, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return taken(path)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(f.Close(), os.Rename(temp, path)); err != nil {
		os.Remove(path)
		return err
	}
	return nil
}

func taken(path string) error {
	return fault.Errorf(fault.Conflict,
		"volumes may be sealed with the key in it, and would be lost: name another file",
		"key file %s is already there, and is not overwritten", path)
}

func writeTemp(temp string, data []byte) error {
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
