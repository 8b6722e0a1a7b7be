// Package tiles reads a log that lies in tiles, as C2SP tlog-tiles has them, from
// a directory or from wherever else its files can be fetched.
//
// Life of a read: a governance.View asks a Reader for the checkpoint, and then for
// entries; the Reader fetches the entry bundle they are in and takes it apart.
// Whoever wants single entries of a long log asks for Hashes instead: of the tree
// under a verified checkpoint it fetches the few tiles that prove them. Nothing
// that is fetched is believed: the View grows the tree from the entries, Hashes
// holds the tiles to the root.
package tiles

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// The measures of C2SP tlog-tiles.
const (
	Height = 8           // of a tile
	Width  = 1 << Height // hashes in a full tile, entries in a full bundle
	// Bundle is the level of an entry bundle, as package tlog writes it.
	Bundle = -1
)

// CheckpointPath is where the newest checkpoint is.
const CheckpointPath = "checkpoint"

// At returns the n-th tile of a level as a log of so many entries has it, and
// false where that has none.
func At(level int, n, size int64) (tlog.Tile, bool) {
	for range max(level, 0) {
		size >>= Height
	}
	w := min(size-n*Width, Width)
	return tlog.Tile{H: Height, L: level, N: n, W: int(w)}, w > 0
}

// Path is where a tile is, below the log.
func Path(t tlog.Tile) string {
	rest := strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", Height))
	if bundle, ok := strings.CutPrefix(rest, "data/"); ok {
		rest = "entries/" + bundle
	}
	return "tile/" + rest
}

// ParsePath is the inverse of Path: a path that Path does not write is no tile's.
func ParsePath(path string) (tlog.Tile, error) {
	rest := strings.TrimPrefix(path, "tile/")
	if bundle, ok := strings.CutPrefix(rest, "entries/"); ok {
		rest = "data/" + bundle
	}
	t, err := tlog.ParseTilePath(fmt.Sprintf("tile/%d/%s", Height, rest))
	if err != nil || Path(t) != path {
		return tlog.Tile{}, fmt.Errorf("%q is not the path of a tile", path)
	}
	return t, nil
}

// Split takes an entry bundle apart: each entry has its length before it, 16 bits,
// big endian.
func Split(bundle []byte) ([][]byte, error) {
	var entries [][]byte
	for len(bundle) > 0 {
		if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
			return nil, fmt.Errorf("the bundle breaks off in entry %d", len(entries))
		}
		end := 2 + int(binary.BigEndian.Uint16(bundle))
		entries = append(entries, bundle[2:end:end])
		bundle = bundle[end:]
	}
	return entries, nil
}

// narrow returns the first w hashes or entries of a tile's bytes.
func narrow(level int, raw []byte, w int) ([]byte, error) {
	end := w * tlog.HashSize
	if level == Bundle {
		entries, err := Split(raw)
		if err != nil {
			return nil, err
		}
		end = 0
		for _, e := range entries[:min(w, len(entries))] {
			end += 2 + len(e)
		}
		if len(entries) < w {
			end = len(raw) + 1
		}
	}
	if end > len(raw) {
		return nil, fmt.Errorf("it holds fewer than %d", w)
	}
	return raw[:end], nil
}
