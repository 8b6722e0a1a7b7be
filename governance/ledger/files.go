package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cloister/governance/tiles"
)

const (
	keyFile     = "ledger.key"
	partiesFile = "parties"
	lockFile    = "lock"
)

// putCheckpoint returns when the checkpoint is durable: old or new, never half.
func putCheckpoint(dir tiles.Dir, signed []byte) error {
	if err := replace(string(dir), tiles.CheckpointPath, signed, 0o644); err != nil {
		return fmt.Errorf("writing the checkpoint: %w", err)
	}
	return nil
}

// replace puts a file into the place of the one of that name, durably.
func replace(dir, name string, data []byte, mode os.FileMode) error {
	path := filepath.Join(dir, name)
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := writeNew(temporary, data, mode); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return syncDir(dir)
}

func writeNew(path string, data []byte, mode os.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return errors.Join(err, file.Close())
	}
	return errors.Join(file.Sync(), file.Close())
}

// syncDir makes a rename durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
