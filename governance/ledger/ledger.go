package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/fault"

	"github.com/rogpeppe/go-internal/lockedfile"
	"golang.org/x/mod/sumdb/note"
)

// maxSkew is how far a signer's clock may be from the ledger's. Consent that
// expires is judged by the latest time in the log, so nobody may push it.
const maxSkew = 10 * time.Minute

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

// Init makes a ledger in dir, which must be empty or not there, and returns its
// verifier key. An empty name takes a random one.
func Init(dir, name string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fault.Errorf(fault.Usage, "", "making the ledger's directory: %w", err)
	}
	if list, err := os.ReadDir(dir); err != nil {
		return "", err
	} else if len(list) > 0 {
		return "", fault.Errorf(fault.Conflict, "name a new directory", "%s is not empty", dir)
	}
	if name == "" {
		var id [8]byte
		if _, err := rand.Read(id[:]); err != nil {
			return "", err
		}
		name = "cloister-ledger-" + hex.EncodeToString(id[:])
	}
	if err := statement.CheckName(name); err != nil {
		return "", fault.Errorf(fault.Usage, "", "the ledger's %w", err)
	}
	secret, public, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return "", err
	}
	return public, create(dir, secret, public)
}

// create writes the checkpoint last: with it, the directory is a ledger.
func create(dir, secret, public string) error {
	signer, err := note.NewSigner(secret)
	if err != nil {
		return err
	}
	signed, err := sign(signer, &governance.Frontier{})
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		mode os.FileMode
		data string
	}{{keyFile, 0o600, secret + "\n"}, {publicFile, 0o644, public + "\n"}, {entriesFile, 0o644, ""}, {lockFile, 0o644, ""}} {
		if err := writeNew(filepath.Join(dir, f.name), []byte(f.data), f.mode); err != nil {
			return err
		}
	}
	return newFiles(dir).putCheckpoint(signed)
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

// ReadKey returns the verifier key that the ledger in dir says it has. Whoever
// has a specification goes by the key in there instead.
func ReadKey(dir string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(dir, publicFile))
	if errors.Is(err, os.ErrNotExist) {
		return "", fault.Errorf(fault.NotFound, "make one with cloister ledger init", "there is no ledger in %s", dir)
	}
	return strings.TrimSpace(string(raw)), err
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

func readSigner(path, public string) (note.Signer, error) {
	if err := checkPrivate(path); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger's key: %w", err)
	}
	defer clear(raw)
	signer, err := note.NewSigner(string(bytes.TrimSpace(raw)))
	if err != nil {
		// The error of a malformed key must not carry the key.
		return nil, fault.Errorf(fault.Refused, "restore it from a backup", "%s is not a ledger's key", path)
	}
	verifier, err := note.NewVerifier(public)
	if err != nil || verifier.Name() != signer.Name() || verifier.KeyHash() != signer.KeyHash() {
		return nil, fault.Errorf(fault.Refused, "restore both from one backup", "%s is not the key that %s names", path, publicFile)
	}
	return signer, nil
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

// Append implements governance.Log.
func (l *Ledger) Append(ctx context.Context, entries ...[]byte) (governance.Receipt, error) {
	if err := checkBatch(entries); err != nil {
		return governance.Receipt{}, err
	}
	release, err := l.take(ctx)
	if err != nil {
		return governance.Receipt{}, err
	}
	defer release()
	unlock, err := l.lockFiles(ctx)
	if err != nil {
		return governance.Receipt{}, err
	}
	defer unlock()
	if err := l.follow(ctx); err != nil {
		return governance.Receipt{}, err
	}
	if err := l.repair(ctx); err != nil {
		return governance.Receipt{}, fmt.Errorf("repairing the log's end: %w", err)
	}
	n, refused := l.admit(entries)
	if n == 0 {
		return governance.Receipt{}, refused
	}
	receipt, err := l.put(ctx, entries[:n])
	if err != nil {
		return governance.Receipt{}, err
	}
	return receipt, refused
}

// checkBatch wants one entry, or some of one run: what a kill can leave behind
// is then told from what somebody wrote into the file.
func checkBatch(entries [][]byte) error {
	if len(entries) == 0 || len(entries) > governance.MaxAppend {
		return fault.Errorf(fault.Internal, "", "%d entries in one append, 1 to %d are taken", len(entries), governance.MaxAppend)
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

// admit returns how many of the entries may be appended, and why no more.
func (l *Ledger) admit(entries [][]byte) (int, error) {
	n, refused := l.view.State().CheckAll(entries)
	for i, entry := range entries[:n] {
		if err := checkClock(entry); err != nil {
			return i, err
		}
	}
	return n, refused
}

func checkClock(entry []byte) error {
	opened, err := statement.Open(entry)
	if err != nil {
		return err
	}
	if skew := time.Since(opened.Time).Abs(); skew > maxSkew {
		return governance.Refuse(governance.ClockFarOff, "set the clock", "the statement's time is %s from the ledger's, at most %s are allowed",
			skew.Round(time.Second), maxSkew)
	}
	return nil
}

func (l *Ledger) put(ctx context.Context, entries [][]byte) (governance.Receipt, error) {
	if err := l.files.appendLines(entries); err != nil {
		return governance.Receipt{}, err
	}
	signed, err := l.publish(entries)
	if err != nil {
		return governance.Receipt{}, err
	}
	index := l.view.Tree().Size()
	if err := l.followTo(ctx, signed); err != nil {
		return governance.Receipt{}, fmt.Errorf("reading back entry %d: %w", index, err)
	}
	return governance.Receipt{Index: index, Count: len(entries), Checkpoint: signed}, nil
}

// publish signs and stores the checkpoint of the verified log and some entries
// more, which are on disk.
func (l *Ledger) publish(entries [][]byte) ([]byte, error) {
	tree := l.view.Tree().Clone()
	for _, entry := range entries {
		tree.Add(entry)
	}
	signed, err := sign(l.signer, tree)
	if err != nil {
		return nil, err
	}
	return signed, l.files.putCheckpoint(signed)
}

func sign(signer note.Signer, tree *governance.Frontier) ([]byte, error) {
	return note.Sign(&note.Note{Text: governance.NewCheckpoint(signer.Name(), tree.Size(), tree.Root())}, signer)
}

// repair deals with what a killed appender left after the checkpoint: lines that
// are whole become part of the log, as their writer was about to say; a torn
// one, which nobody was told of, is cut off. The first lines of an append are
// the start of a chain of which the run learns how far it got. One append leaves
// one line, or some of one run, so anything else was not left by a kill and is
// not touched.
func (l *Ledger) repair(ctx context.Context) error {
	tail, err := l.files.tail()
	if err != nil || len(tail) == 0 {
		return err
	}
	lines := bytes.Split(tail, []byte("\n"))
	whole, torn := lines[:len(lines)-1], lines[len(lines)-1]
	if len(torn) > statement.MaxEntry || !leftByOneAppend(whole, len(torn) > 0) {
		return fault.Errorf(fault.Refused, "the checkpoint is older than the log, or somebody wrote into it: restore both from one backup",
			"%s goes on for %d bytes after the last checkpoint", entriesFile, len(tail))
	}
	if len(whole) == 0 {
		return l.files.cut(0)
	}
	if _, err := l.view.State().CheckAll(whole); err != nil {
		return fault.Errorf(fault.Refused, "remove the line if you know where it is from",
			"the line after the last checkpoint was not written by a ledger: %w", err)
	}
	if len(torn) > 0 {
		if err := l.files.cut(len(tail) - len(torn)); err != nil {
			return err
		}
	}
	signed, err := l.publish(whole)
	if err != nil {
		return err
	}
	return l.followTo(ctx, signed)
}

func leftByOneAppend(whole [][]byte, torn bool) bool {
	if len(whole) == 0 || len(whole) == 1 && !torn {
		return true
	}
	lines := len(whole)
	if torn {
		lines++
	}
	return lines <= governance.MaxAppend && ofOneRun(whole)
}
