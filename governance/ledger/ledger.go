package ledger

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"cloister/governance"
	"cloister/internal/fault"

	"github.com/rogpeppe/go-internal/lockedfile"
	"golang.org/x/mod/sumdb/note"
)

// Ledger is an open log. It implements governance.Log and is safe for
// concurrent use, also by several processes.
type Ledger struct {
	files  *files
	key    string // verifier key
	signer note.Signer
	lock   *lockedfile.Mutex

	// turn holds one token, and its holder owns files and what follows. It is a
	// channel because it is held across I/O and gives way to a context.
	turn    chan struct{}
	view    *governance.View
	foreign error // an entry was met that no ledger appends
}

// Open opens the ledger in dir and verifies the whole log.
func Open(ctx context.Context, dir string) (*Ledger, error) {
	key, err := ReadKey(dir)
	if err != nil {
		return nil, err
	}
	signer, err := readSigner(filepath.Join(dir, keyFile), key)
	if err != nil {
		return nil, err
	}
	l := &Ledger{files: newFiles(dir), key: key, signer: signer, turn: make(chan struct{}, 1),
		lock: lockedfile.MutexAt(filepath.Join(dir, lockFile)), view: governance.NewView(key)}
	if err := l.follow(ctx); err != nil {
		return nil, fmt.Errorf("opening ledger %s: %w", dir, err)
	}
	return l, nil
}

// follow verifies what was appended since. A ledger appends only what the fold
// accepts, so an entry that it refuses was put in by somebody with the key.
func (l *Ledger) follow(ctx context.Context) error {
	signed, err := l.files.Checkpoint(ctx)
	if err != nil {
		return err
	}
	return l.followTo(ctx, signed)
}

func (l *Ledger) followTo(ctx context.Context, signed []byte) error {
	err := l.view.Advance(ctx, l.files, signed, func(seen governance.Seen) {
		if seen.Refused != nil && l.foreign == nil {
			l.foreign = fmt.Errorf("entry %d is not one that a ledger appends: %w", seen.Index, seen.Refused)
		}
	})
	return errors.Join(err, l.foreign)
}

// Key returns the ledger's verifier key.
func (l *Ledger) Key() string { return l.key }

// Checkpoint implements governance.Log.
func (l *Ledger) Checkpoint(ctx context.Context) ([]byte, error) { return l.files.Checkpoint(ctx) }

// Entries implements governance.Log. What it returns has been verified.
func (l *Ledger) Entries(ctx context.Context, from, to int64) ([][]byte, error) {
	release, err := l.take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if to > l.view.Tree().Size() {
		if err := l.follow(ctx); err != nil {
			return nil, err
		}
	}
	if size := l.view.Tree().Size(); to > size {
		return nil, fault.Errorf(fault.NotFound, "", "entry %d is not in the log of %d", to-1, size)
	}
	return l.files.Entries(ctx, from, to)
}

func (l *Ledger) take(ctx context.Context) (release func(), err error) {
	select {
	case l.turn <- struct{}{}:
		return func() { <-l.turn }, nil
	case <-ctx.Done():
		return nil, fault.Errorf(fault.Unavailable, "", "waiting for the ledger: %w", ctx.Err())
	}
}
