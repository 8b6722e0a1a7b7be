package tiles

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/tlog"
)

// A ledger's directory, as its readers need it.
const (
	KeyFile = "ledger.pub" // the ledger's verifier key, as a specification names it
	TileDir = "log"        // the log's tiles are below it
)

// Dir is a ledger's directory. It needs no key, writes nothing and verifies
// nothing.
type Dir string

// Key returns the verifier key that the ledger says it has. Whoever has a
// specification goes by the key in there instead.
func (d Dir) Key() (string, error) {
	raw, err := os.ReadFile(filepath.Join(string(d), KeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", d.none()
	}
	return strings.TrimSpace(string(raw)), err
}

func (d Dir) none() error {
	return fault.Errorf(fault.NotFound, "make one with cloister-ledger init", "there is no ledger in %s", string(d))
}

// Fetch is a Fetch of the log up to its newest checkpoint. It answers for every
// part of a tile that a log of that size or a smaller one has.
func (d Dir) Fetch(_ context.Context, path string) ([]byte, error) {
	signed, err := os.ReadFile(filepath.Join(string(d), CheckpointPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, d.none()
	}
	if err != nil || path == CheckpointPath {
		return signed, err
	}
	t, err := ParsePath(path)
	if err != nil {
		return nil, fault.Errorf(fault.NotFound, "ask for a path as C2SP tlog-tiles writes it", "the log has no %w", err)
	}
	size, err := sizeOf(signed)
	if err != nil {
		return nil, err
	}
	return d.Tile(t, size)
}

// sizeOf reads the size off a checkpoint that nobody has verified.
func sizeOf(signed []byte) (int64, error) {
	if lines := bytes.SplitN(signed, []byte("\n"), 3); len(lines) == 3 {
		if size, err := strconv.ParseInt(string(lines[1]), 10, 64); err == nil && size >= 0 {
			return size, nil
		}
	}
	return 0, fault.Errorf(fault.Refused, "restore the ledger from a backup", "the checkpoint is damaged")
}

// Tile returns a tile, or a part of one, of a log of so many entries. What lies
// there for a larger log is not looked at: an append that was killed may have
// left it.
func (d Dir) Tile(t tlog.Tile, size int64) ([]byte, error) {
	lies, ok := At(t.L, t.N, size)
	if !ok || t.W > lies.W {
		return nil, fault.Errorf(fault.NotFound, "ask for no more than the newest checkpoint covers", "the log of %d entries has no %s", size, Path(t))
	}
	raw, err := d.read(lies)
	if err != nil {
		return nil, err
	}
	raw, err = narrow(t.L, raw, t.W)
	if err != nil {
		return nil, fault.Errorf(fault.Refused, "restore the ledger from a backup", "%s is damaged: %w", Path(lies), err)
	}
	return raw, nil
}

// read reads a tile's file, or the full tile's, which is there once the log has
// outgrown the part.
func (d Dir) read(t tlog.Tile) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(string(d), TileDir, filepath.FromSlash(Path(t))))
	if errors.Is(err, fs.ErrNotExist) && t.W < Width {
		t.W = Width
		return d.read(t)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Errorf(fault.Refused, "restore the ledger from a backup", "the log has lost its file %s", Path(t))
	}
	return raw, err
}
