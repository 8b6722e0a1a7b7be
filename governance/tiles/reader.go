package tiles

import (
	"context"
	"fmt"
	"sync"

	"cloister/governance"
	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/tlog"
)

// Fetch returns the file of a log at a path. One that is not there is an error
// of kind fault.NotFound.
type Fetch func(ctx context.Context, path string) ([]byte, error)

// Reader reads a log through Fetch. It implements governance.Source and is safe
// for concurrent use.
type Reader struct {
	fetch Fetch

	mu   sync.Mutex           // guards what follows
	full map[tlog.Tile][]byte // verified full tiles, which never change
}

// maxCached is how many full tiles a Reader keeps: 8 KiB each, and 1024 are all
// below the top of a log of 260,000 entries.
const maxCached = 1024

// NewReader returns a Reader.
func NewReader(fetch Fetch) *Reader { return &Reader{fetch: fetch, full: map[tlog.Tile][]byte{}} }

// Checkpoint implements governance.Source.
func (r *Reader) Checkpoint(ctx context.Context) ([]byte, error) { return r.fetch(ctx, CheckpointPath) }

// Entries implements governance.Source: those of one bundle. to is at most the
// size of a checkpoint that the log has shown.
func (r *Reader) Entries(ctx context.Context, from, to int64) ([][]byte, error) {
	if from < 0 || to <= from {
		return nil, fault.Errorf(fault.Internal, "report it: this is a defect", "entries %d to %d", from, to)
	}
	t, _ := At(Bundle, from/Width, to)
	raw, err := r.tile(ctx, t)
	if err != nil {
		return nil, err
	}
	entries, err := Split(raw)
	if err != nil || len(entries) < t.W {
		return nil, fault.Errorf(fault.Refused, "restore the ledger from a backup", "entry bundle %s is damaged: it has %d entries (%v)", Path(t), len(entries), err)
	}
	return entries[from-t.N*Width : t.W], nil
}

// tile fetches a tile, or the full one where the log no longer keeps a part of it.
func (r *Reader) tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	raw, err := r.fetch(ctx, Path(t))
	if fault.KindOf(err) == fault.NotFound && t.W < Width {
		full := t
		full.W = Width
		if raw, errFull := r.fetch(ctx, Path(full)); errFull == nil {
			return raw, nil
		}
	}
	return raw, err
}

// Hashes returns the leaf hashes (statement.EntryDigest) of entries of the log
// under a checkpoint, each proven to be in it. It fetches as many tiles as the
// tree is high, for each that is far from the others.
func (r *Reader) Hashes(ctx context.Context, under governance.Checkpoint, entries ...int64) ([]tlog.Hash, error) {
	indexes := make([]int64, len(entries))
	for i, n := range entries {
		if n < 0 || n >= under.Size {
			return nil, fault.Errorf(fault.NotFound, "see cloister audit list for the entries that there are", "entry %d is not in the log of %d", n, under.Size)
		}
		indexes[i] = tlog.StoredHashIndex(0, n)
	}
	hashes, err := r.HashReader(ctx, under).ReadHashes(indexes)
	if err != nil && fault.KindOf(err) == fault.Internal {
		err = fault.Errorf(fault.Refused, "keep the ledger's files and its checkpoint: they are the evidence", "proving entries of the log of %d: %w", under.Size, err)
	}
	return hashes, err
}

// HashReader reads hashes of the tree under a checkpoint, for proofs of package
// tlog. What it returns is proven.
func (r *Reader) HashReader(ctx context.Context, under governance.Checkpoint) tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: under.Size, Hash: under.Root}, tileReader{ctx, r})
}

// tileReader gives package tlog its tiles.
type tileReader struct {
	ctx context.Context
	*Reader
}

func (tileReader) Height() int { return Height }

func (r tileReader) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	all := make([][]byte, len(wanted))
	for i, t := range wanted {
		raw, err := r.cached(t)
		if err != nil {
			return nil, err
		}
		if all[i], err = narrow(t.L, raw, t.W); err != nil {
			return nil, fault.Errorf(fault.Refused, "restore the ledger from a backup", "tile %s is damaged: %w", Path(t), err)
		}
	}
	return all, nil
}

func (r tileReader) cached(t tlog.Tile) ([]byte, error) {
	r.mu.Lock()
	raw, ok := r.full[t]
	r.mu.Unlock()
	if ok {
		return raw, nil
	}
	raw, err := r.tile(r.ctx, t)
	if err != nil {
		return nil, fmt.Errorf("reading tile %s: %w", Path(t), err)
	}
	return raw, nil
}

// SaveTiles is told of tiles that have been verified.
func (r tileReader) SaveTiles(verified []tlog.Tile, data [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, t := range verified {
		if t.W != Width {
			continue
		}
		if len(r.full) >= maxCached {
			clear(r.full)
		}
		r.full[t] = data[i]
	}
}
