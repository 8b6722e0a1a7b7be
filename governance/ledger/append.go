package ledger

import (
	"context"
	"fmt"
	"time"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/note"
)

// maxSkew is how far a signer's clock may be from the ledger's. Consent that
// expires is judged by the latest time in the log, so nobody may push it.
const maxSkew = 10 * time.Minute

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
