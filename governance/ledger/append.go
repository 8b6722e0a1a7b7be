package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxSkew is how far a signer's clock may be from the ledger's. Consent that
// expires is judged by the latest time in the log, so nobody may push it.
const maxSkew = 10 * time.Minute

// commitTime is how long a commit has whoever waits for it: writing takes
// milliseconds, and cosigners answer in seconds or not at all.
const commitTime = 30 * time.Second

// request is an append that waits. Its owner reads the outcome after done is
// closed, and whoever has the turn sets it before.
type request struct {
	entries  [][]byte
	admitted int // of the entries, after the fold was asked
	receipt  governance.Receipt
	err      error
	done     chan struct{}
}

func (r *request) answer(receipt governance.Receipt, err error) {
	r.receipt, r.err = receipt, err
	close(r.done)
}

// Append implements governance.Log. Many that wait at the same time share an
// integration and a checkpoint.
func (l *Ledger) Append(ctx context.Context, entries ...[]byte) (governance.Receipt, error) {
	if err := checkBatch(entries); err != nil {
		return governance.Receipt{}, err
	}
	r := &request{entries: entries, done: make(chan struct{})}
	l.mu.Lock()
	l.waiting = append(l.waiting, r)
	l.mu.Unlock()
	select {
	case l.turn <- struct{}{}:
		l.lead(ctx, r)
		<-l.turn
	case <-r.done:
	case <-ctx.Done():
		l.giveUp(r, ctx.Err())
	}
	<-r.done
	return r.receipt, r.err
}

// giveUp answers a request that nobody has taken yet. What has been taken is
// being written and answered by whoever took it.
func (l *Ledger) giveUp(r *request, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, r); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		r.answer(governance.Receipt{}, fault.Errorf(fault.Unavailable, "try again", "waiting for the ledger: %w", cause))
	}
}

// lead commits what waits until own is among it. The lock is waited for in own's
// time; what comes then is done for the others too, and does not end with it.
func (l *Ledger) lead(ctx context.Context, own *request) {
	for !isDone(own) {
		if err := l.round(ctx); err != nil {
			l.giveUpWith(own, err)
			return
		}
	}
}

func isDone(r *request) bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

func (l *Ledger) giveUpWith(own *request, err error) {
	l.mu.Lock()
	l.waiting = slices.DeleteFunc(l.waiting, func(r *request) bool { return r == own })
	l.mu.Unlock()
	own.answer(governance.Receipt{}, err)
}

// round makes the log ready to be appended to and commits what waits by then.
func (l *Ledger) round(ctx context.Context) error {
	unlock, err := l.lockFiles(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTime)
	defer cancel()
	if err := l.follow(ctx); err != nil {
		return err
	}
	if err := l.repair(ctx); err != nil {
		return fmt.Errorf("repairing the log's end: %w", err)
	}
	if taken := l.takeWaiting(); len(taken) > 0 {
		l.commit(ctx, taken)
		l.saveSometimes()
	}
	return nil
}

// takeWaiting takes as many requests as one integration has room for.
func (l *Ledger) takeWaiting() []*request {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, entries := 0, 0
	for n < len(l.waiting) && entries+len(l.waiting[n].entries) <= maxTogether {
		entries += len(l.waiting[n].entries)
		n++
	}
	taken := slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	return taken
}

// commit appends what the fold admits of the requests, and answers each.
func (l *Ledger) commit(ctx context.Context, requests []*request) {
	entries, refusals := l.admit(requests)
	at := l.view.Tree().Size()
	var signed []byte
	var failed error
	if len(entries) > 0 {
		signed, failed = l.put(ctx, entries)
	}
	for i, r := range requests {
		if refusals[i] != nil {
			refusals[i] = errors.Join(refusals[i], l.keepRefused(r.entries[r.admitted], refusals[i]))
		}
		switch {
		case r.admitted == 0:
			r.answer(governance.Receipt{}, refusals[i])
		case failed != nil:
			r.answer(governance.Receipt{}, failed)
		default:
			r.answer(governance.Receipt{Index: at, Count: r.admitted, Checkpoint: signed}, refusals[i])
		}
		at += int64(r.admitted)
	}
}

// admit asks the fold about each entry after those before it, and notes how far
// each request comes and why not further.
func (l *Ledger) admit(requests []*request) (entries [][]byte, refusals []error) {
	after := l.view.State()
	if len(requests) > 1 || len(requests[0].entries) > 1 {
		after = after.Fork()
	}
	refusals = make([]error, len(requests))
	for i, r := range requests {
		for _, entry := range r.entries {
			if refusals[i] = l.admitOne(after, l.view.Tree().Size()+int64(len(entries)), entry); refusals[i] != nil {
				break
			}
			entries = append(entries, entry)
			r.admitted++
		}
	}
	return entries, refusals
}

func (l *Ledger) admitOne(after *governance.State, index int64, entry []byte) error {
	if err := after.Check(entry); err != nil {
		return err
	}
	if err := l.checkEntry(after, entry); err != nil {
		return err
	}
	if after == l.view.State() {
		return nil // the only one: nothing is judged after it
	}
	_, err := after.Apply(index, entry)
	return err
}

// checkEntry is what a ledger asks beyond the fold: a clock near its own, of a run
// that begins that its evidence holds, and of the first statement that it is by
// whom the operator made the ledger for.
func (l *Ledger) checkEntry(after *governance.State, entry []byte) error {
	opened, err := statement.Open(entry)
	if err != nil {
		return err
	}
	if skew := time.Since(opened.Time).Abs(); skew > maxSkew {
		return governance.Refuse(governance.ClockFarOff, "set the clock", "the statement's time is %s from the ledger's, at most %s are allowed",
			skew.Round(time.Second), maxSkew)
	}
	if after.Status() != governance.Draft {
		return l.judgeEvidence(after, opened)
	}
	ok, err := l.mayPropose(opened.Signers[0].Key)
	if err == nil && !ok {
		err = governance.Refuse(governance.NotAParty, "have the ledger's operator name the key to cloister-ledger init", "key %s may not propose a contract in this ledger", opened.Signers[0].Key)
	}
	return err
}

func (l *Ledger) judgeEvidence(after *governance.State, opened *statement.Opened) error {
	begin, ok := opened.Body.(*statement.RunBegin)
	if !ok || l.evidence == nil {
		return nil
	}
	contract, _ := after.Contract()
	if err := l.evidence(begin, contract); err != nil {
		return governance.Refuse(governance.Unapproved, "run it in a container under the contract's policy", "the evidence of run %s: %w", begin.Run.ID, err)
	}
	return nil
}

// put returns the checkpoint that covers the entries, once everything is durable.
func (l *Ledger) put(ctx context.Context, entries [][]byte) ([]byte, error) {
	at := l.view.Tree().Size()
	if err := l.store.add(ctx, at, entries); err != nil {
		return nil, err
	}
	signed, err := l.publish(ctx, entries)
	if err != nil {
		return nil, err
	}
	if err := l.followTo(ctx, signed); err != nil {
		return nil, fmt.Errorf("reading back entry %d: %w", at, err)
	}
	return signed, nil
}

// publish signs, has cosigned and stores the checkpoint of the verified log and
// some entries more, which are in the tiles.
func (l *Ledger) publish(ctx context.Context, entries [][]byte) ([]byte, error) {
	tree := l.view.Tree().Clone()
	for _, entry := range entries {
		tree.Add(entry)
	}
	signed, err := sign(l.signer, tree)
	if err != nil {
		return nil, err
	}
	old, _ := l.view.Checkpoint()
	next := governance.Checkpoint{Size: tree.Size(), Root: tree.Root()}
	// Also where nobody cosigns, the tiles are held against the fold.
	if _, err := l.prove(ctx, old, next); err != nil {
		return nil, err
	}
	cosigned, err := l.cosign(ctx, signed, func(ctx context.Context, old int64) (tlog.TreeProof, error) {
		return l.prove(ctx, governance.Checkpoint{Size: old}, next)
	})
	if err != nil {
		return nil, fmt.Errorf("having a checkpoint of %d entries cosigned: %w", tree.Size(), err)
	}
	return cosigned, putCheckpoint(l.dir, cosigned)
}

func sign(signer note.Signer, tree *governance.Frontier) ([]byte, error) {
	return note.Sign(&note.Note{Text: governance.NewCheckpoint(signer.Name(), tree.Size(), tree.Root())}, signer)
}
