package ledger

import (
	"context"
	"fmt"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/governance/tiles"
	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/tlog"
)

// checkBatch wants one entry, or some of one run: an append is one party's word,
// or one run's.
func checkBatch(entries [][]byte) error {
	if len(entries) == 0 || len(entries) > governance.MaxAppend {
		return fault.Errorf(fault.Usage, "append fewer at once", "%d entries in one append, 1 to %d are taken", len(entries), governance.MaxAppend)
	}
	if len(entries) > 1 && !ofOneRun(entries) {
		return governance.Refuse(governance.Malformed, "append them one by one", "the entries of one append are not all of one run")
	}
	return nil
}

func ofOneRun(entries [][]byte) bool {
	id := ""
	for i, entry := range entries {
		opened, err := statement.Open(entry)
		if err != nil {
			return false
		}
		body, ok := opened.Body.(statement.RunBody)
		if !ok || i > 0 && body.Header().ID != id {
			return false
		}
		id = body.Header().ID
	}
	return true
}

// lockFiles takes the lock against other processes, and gives up with ctx. A
// lock that comes after that is let go at once.
func (l *Ledger) lockFiles(ctx context.Context) (unlock func(), err error) {
	type result struct {
		unlock func()
		err    error
	}
	done := make(chan result, 1)
	go func() {
		unlock, err := l.lock.Lock()
		done <- result{unlock, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("locking the ledger: %w", r.err)
		}
		return r.unlock, nil
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				r.unlock()
			}
		}()
		return nil, fault.Errorf(fault.Unavailable, "another process appends; try again", "locking the ledger: %w", ctx.Err())
	}
}

// prove returns the proof that the tiles hold next, and that next goes on from
// old. Tessera hashed the tiles, the fold the entries: here they meet.
func (l *Ledger) prove(ctx context.Context, old, next governance.Checkpoint) (tlog.TreeProof, error) {
	if next.Size == 0 {
		return nil, nil
	}
	grown := tiles.NewReader(func(_ context.Context, path string) ([]byte, error) {
		t, err := tiles.ParsePath(path)
		if err != nil {
			return nil, err
		}
		return l.dir.Tile(t, next.Size)
	})
	if _, err := grown.Hashes(ctx, next, next.Size-1); err != nil || old.Size == 0 {
		return nil, err
	}
	return tlog.ProveTree(next.Size, old.Size, grown.HashReader(ctx, next))
}
