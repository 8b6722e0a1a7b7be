package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cloister/governance"
	"cloister/governance/tiles"
	"cloister/internal/fault"

	"github.com/rogpeppe/go-internal/lockedfile"
	"golang.org/x/sys/unix"
)

// Backup copies the ledger in dir to a new directory, also while servers append
// to it, and returns the checkpoint of the copy, which is a ledger with the same
// key: it is as secret as the one copied. Full tiles never change, so most is
// copied beside the appends; under the ledger's lock, where appends wait, only
// what came since, the parts of tiles, Tessera's state and the checkpoint are. So
// the state is never newer than the tiles, as it could be in a plain copy of a
// running ledger. The copied checkpoint comes last: with it the copy is a ledger.
func Backup(ctx context.Context, dir, to string) (governance.Checkpoint, error) {
	key, err := tiles.Dir(dir).Key()
	if err != nil {
		return governance.Checkpoint{}, err
	}
	if err := emptyDir(to); err != nil {
		return governance.Checkpoint{}, err
	}
	if err := copyTree(ctx, dir, to, isFull); err != nil {
		return governance.Checkpoint{}, fmt.Errorf("copying the log's full tiles: %w", err)
	}
	l := &Ledger{dir: tiles.Dir(dir), lock: lockedfile.MutexAt(filepath.Join(dir, lockFile))}
	unlock, err := l.lockFiles(ctx)
	if err != nil {
		return governance.Checkpoint{}, err
	}
	defer unlock()
	signed, err := os.ReadFile(filepath.Join(dir, tiles.CheckpointPath))
	if err != nil {
		return governance.Checkpoint{}, err
	}
	if err := copyTree(ctx, dir, to, isNoCheckpoint); err != nil {
		return governance.Checkpoint{}, fmt.Errorf("copying the ledger: %w", err)
	}
	if err := syncAll(to); err != nil {
		return governance.Checkpoint{}, err
	}
	return seal(ctx, tiles.Dir(to), key, signed)
}

// seal makes a ledger of a copy that proves to hold what the checkpoint says.
func seal(ctx context.Context, to tiles.Dir, key string, signed []byte) (governance.Checkpoint, error) {
	c, err := governance.OpenCheckpoint(signed, key)
	if err != nil {
		return c, err
	}
	copied := &Ledger{dir: to}
	if _, err := copied.prove(ctx, governance.Checkpoint{}, c); err != nil {
		return c, fmt.Errorf("checking the copy: %w", err)
	}
	return c, putCheckpoint(to, signed)
}

// emptyDir makes a directory, or finds an empty one.
func emptyDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fault.Errorf(fault.Usage, "name a directory that can be made", "making the directory: %w", err)
	}
	if list, err := os.ReadDir(dir); err != nil {
		return err
	} else if len(list) > 0 {
		return fault.Errorf(fault.Conflict, "name a new directory", "%s is not empty", dir)
	}
	return nil
}

// isFull says whether a path is a full tile's or bundle's, by C2SP tlog-tiles:
// parts lie in a directory whose name ends in .p.
func isFull(path string) bool {
	rest, ok := strings.CutPrefix(path, filepath.Join(tiles.TileDir, "tile")+string(filepath.Separator))
	if !ok {
		return false
	}
	_, err := tiles.ParsePath("tile/" + filepath.ToSlash(rest))
	return err == nil && !strings.Contains(rest, ".p"+string(filepath.Separator))
}

func isNoCheckpoint(path string) bool {
	return !strings.HasPrefix(path, tiles.CheckpointPath) // nor the one being written
}

// copyTree copies the files that are wanted and not there yet. What goes away
// meanwhile was a temporary file, or a part of a tile that is full now.
func copyTree(ctx context.Context, from, to string, wanted func(path string) bool) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != from {
			return nil
		}
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		name, err := filepath.Rel(from, path)
		if err != nil || entry.IsDir() || !wanted(name) {
			return err
		}
		if err := copyFile(path, filepath.Join(to, name)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
}

// copyFile makes a copy with the same mode.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// syncAll makes everything on the directory's file system durable: one call for
// thousands of files.
func syncAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}
