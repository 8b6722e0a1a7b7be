package ledger

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"cloister/internal/fault"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

const (
	// maxTogether is how many entries one integration takes at most, so how many
	// a kill can leave after the checkpoint.
	maxTogether = 1024
	// flushAfter is how long Tessera waits for more entries. Those that belong
	// together were given to it at once.
	flushAfter = time.Millisecond
	// sweepEvery is how often Tessera removes parts of tiles that are full by now:
	// of 100 bundles at a time, so of 2,560 entries a second.
	sweepEvery = 10 * time.Second
)

// store is Tessera's log on files. Whoever holds the ledger's lock calls it.
type store struct {
	appender *tessera.Appender
	reader   tessera.LogReader
	close    func()
}

func openStore(dir, origin string) (*store, error) {
	// Nobody believes what this key signs, see the package's documentation.
	secret, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	driver, err := posix.New(ctx, posix.Config{Path: dir})
	if err != nil {
		cancel()
		return nil, err
	}
	appender, _, reader, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().WithCheckpointSigner(signer).
		WithCheckpointInterval(time.Second).WithCheckpointRepublishInterval(0).
		WithBatching(maxTogether, flushAfter).WithGarbageCollectionInterval(sweepEvery))
	if err != nil {
		cancel()
		return nil, fmt.Errorf("opening the log's files: %w", err)
	}
	return &store{appender, reader, cancel}, nil
}

// size returns how many entries are in the tiles, of which the last may lie after
// the checkpoint.
func (s *store) size(ctx context.Context) (int64, error) {
	size, err := s.reader.IntegratedSize(ctx)
	return int64(size), err
}

// add returns when the entries and the tiles over them are durable. After an
// error some of them may be, the first ones.
func (s *store) add(ctx context.Context, at int64, entries [][]byte) error {
	futures := make([]tessera.IndexFuture, len(entries))
	for i, e := range entries {
		futures[i] = s.appender.Add(ctx, tessera.NewEntry(e))
	}
	var failed error
	for i, wait := range futures {
		index, err := wait()
		if failed != nil {
			continue // wait for all: what is not done now would be done later
		}
		if err != nil {
			failed = fault.Errorf(fault.Unavailable, "see that the disk has room", "appending to the log: %w", err)
		} else if index.Index != uint64(at)+uint64(i) {
			failed = fault.Errorf(fault.Refused, "one process only may open a ledger, and only once", "entry %d of the log came to lie at %d", at+int64(i), index.Index)
		}
	}
	return failed
}
