package image

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"cloister/internal/fault"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Cache remembers root hashes in a directory, a file a layer, named by the
// layer's diff id: the same content has the same hash whatever its packing. ""
// remembers nothing. Whoever may write there may have another layer admitted,
// as whoever may replace this program may.
type Cache string

// DefaultCache is in the user's cache directory, "" where there is none.
func DefaultCache() Cache {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return Cache(filepath.Join(dir, "cloister", "layers"))
}

// file holds the converter's form in its name: another converter's hashes are
// not these.
func (c Cache) file(diff v1.Hash) string {
	return filepath.Join(string(c), "tar2ext4-v1-"+diff.Algorithm+"-"+diff.Hex)
}

// get takes anything but one whole hash for absent.
func (c Cache) get(diff v1.Hash) (string, bool) {
	if c == "" {
		return "", false
	}
	text, err := os.ReadFile(c.file(diff))
	root, whole := strings.CutSuffix(string(text), "\n")
	if raw, bad := hex.DecodeString(root); err != nil || !whole || bad != nil || len(raw) != 32 {
		return "", false
	}
	return root, true
}

func (c Cache) put(diff v1.Hash, root string) error {
	if c == "" {
		return nil
	}
	if err := c.write(diff, root); err != nil {
		return fault.Errorf(fault.Unavailable, "name another directory with --cache, or none with --cache ''", "remembering the hash: %w", err)
	}
	return nil
}

func (c Cache) write(diff v1.Hash, root string) error {
	if err := os.MkdirAll(string(c), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(string(c), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(root + "\n")
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), c.file(diff))
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}
