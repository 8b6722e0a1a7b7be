package ledger

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/governance/tiles"
	"cloister/internal/fault"

	"github.com/rogpeppe/go-internal/lockedfile"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Cosign offers a checkpoint that the ledger has signed to whoever cosigns, and
// returns it with their signatures added; nothing is published or acknowledged
// before. prove proves that the log goes on from its first old entries, wherever
// a witness stands, and is asked while the call lasts. After an error the entries
// stay, unacknowledged, and the next append offers them again first.
type Cosign func(ctx context.Context, signed []byte, prove func(ctx context.Context, old int64) (tlog.TreeProof, error)) ([]byte, error)

// Option is a choice of whoever opens a ledger.
type Option func(*Ledger)

// WithCosign has every checkpoint cosigned.
func WithCosign(c Cosign) Option { return func(l *Ledger) { l.cosign = c } }

// WithEvidence has the evidence of a run that begins under a contract version
// judged before its run-begin is appended: what judge refuses is refused as of an
// unapproved container. What is in the log already is not judged again, as what
// judge goes by may have changed since.
func WithEvidence(judge func(*statement.RunBegin, statement.Contract) error) Option {
	return func(l *Ledger) { l.evidence = judge }
}

// Ledger is an open log. It implements governance.Log and is safe for
// concurrent use, also by several processes.
type Ledger struct {
	dir    tiles.Dir
	reader *tiles.Reader
	store  *store
	key    string // verifier key
	signer note.Signer
	cosign Cosign
	lock   *lockedfile.Mutex

	evidence func(*statement.RunBegin, statement.Contract) error // nil: unjudged

	mu      sync.Mutex // guards waiting
	waiting []*request

	// turn holds one token, and its holder owns what follows. It is a channel
	// because it is held across I/O and gives way to a context.
	turn    chan struct{}
	view    *governance.View
	foreign error // an entry was met that no ledger appends
	saved   int64 // entries that the newest snapshot holds

	seal      sealKey
	saveEvery int64 // entries
	distrust  bool  // of snapshots
}

// Open opens the ledger in dir and verifies its log: what came after the newest
// snapshot, and all where there is none that this program made with the ledger's key.
// Close ends it.
func Open(ctx context.Context, dir string, options ...Option) (*Ledger, error) {
	key, err := tiles.Dir(dir).Key()
	if err != nil {
		return nil, err
	}
	signer, seal, err := readSigner(filepath.Join(dir, keyFile), key)
	if err != nil {
		return nil, err
	}
	return openWith(ctx, dir, key, signer, seal, options)
}

func openWith(ctx context.Context, dir, key string, signer note.Signer, seal sealKey, options []Option) (*Ledger, error) {
	d := tiles.Dir(dir)
	l := &Ledger{dir: d, reader: tiles.NewReader(d.Fetch), key: key, signer: signer, cosign: alone, turn: make(chan struct{}, 1),
		lock: lockedfile.MutexAt(filepath.Join(dir, lockFile)), view: governance.NewView(key), seal: seal, saveEvery: snapshotEvery}
	for _, o := range options {
		o(l)
	}
	if err := l.start(ctx); err != nil {
		return nil, fmt.Errorf("opening ledger %s: %w", dir, err)
	}
	return l, nil
}

// alone is Cosign of a ledger without witnesses.
func alone(_ context.Context, signed []byte, _ func(context.Context, int64) (tlog.TreeProof, error)) ([]byte, error) {
	return signed, nil
}

// start follows the log before Tessera touches it, and then under the lock lets
// Tessera make its files where they are not there yet.
func (l *Ledger) start(ctx context.Context) error {
	if err := l.begin(func() error { return l.follow(ctx) }); err != nil {
		return err
	}
	unlock, err := l.lockFiles(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	l.saveSometimes()
	l.store, err = openStore(filepath.Join(string(l.dir), tiles.TileDir), l.signer.Name())
	return err
}

// Close ends what Tessera does in the background. Nobody appends after it. What was
// appended since the newest snapshot is saved, or read at the next start.
func (l *Ledger) Close() {
	defer l.store.close()
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if unlock, err := l.lock.Lock(); err == nil {
		if l.view.Tree().Size() > l.saved {
			_ = l.save()
		}
		unlock()
	}
}

// follow verifies what was appended since. A ledger appends only what the fold
// accepts, so an entry that it refuses was put in by somebody with the key.
func (l *Ledger) follow(ctx context.Context) error {
	signed, err := l.reader.Checkpoint(ctx)
	if err != nil {
		return err
	}
	return l.followTo(ctx, signed)
}

func (l *Ledger) followTo(ctx context.Context, signed []byte) error {
	err := l.view.Advance(ctx, l.reader, signed, func(seen governance.Seen) {
		if seen.Refused != nil && l.foreign == nil {
			l.foreign = fmt.Errorf("entry %d is not one that a ledger appends: %w", seen.Index, seen.Refused)
		}
	})
	return errors.Join(err, l.foreign)
}

// Key returns the ledger's verifier key.
func (l *Ledger) Key() string { return l.key }

// Dir returns the ledger's directory.
func (l *Ledger) Dir() tiles.Dir { return l.dir }

// Checkpoint implements governance.Log.
func (l *Ledger) Checkpoint(ctx context.Context) ([]byte, error) { return l.reader.Checkpoint(ctx) }

// Entries implements governance.Log.
func (l *Ledger) Entries(ctx context.Context, from, to int64) ([][]byte, error) {
	return l.reader.Entries(ctx, from, to)
}

// Known says whether a key is of a party of the contract or of a run of it, or,
// before there is a contract, of who may propose one.
func (l *Ledger) Known(ctx context.Context, fingerprint string) (bool, error) {
	release, err := l.take(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	if err := l.follow(ctx); err != nil {
		return false, err
	}
	if state := l.view.State(); state.Status() != governance.Draft {
		return state.Knows(fingerprint), nil
	}
	return l.mayPropose(fingerprint)
}

func (l *Ledger) take(ctx context.Context) (release func(), err error) {
	select {
	case l.turn <- struct{}{}:
		return func() { <-l.turn }, nil
	case <-ctx.Done():
		return nil, fault.Errorf(fault.Unavailable, "try again", "waiting for the ledger: %w", ctx.Err())
	}
}
