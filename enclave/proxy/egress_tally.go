package proxy

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"cloister/governance/statement"
	"cloister/policy/spec"
)

// The decisions that are recorded, as statements write them.
const (
	Allowed          = statement.EgressAllowed
	NotListed        = statement.EgressNotListed
	ForbiddenAddress = statement.EgressForbidden
	ByPolicy         = statement.EgressPolicy
	Unreadable       = statement.EgressUnreadable
)

// Record puts decisions into the run's record: nil once the ledger has them.
type Record func(ctx context.Context, decisions []statement.EgressDecision) error

// maxDestinations bounds the destinations of one run. A list is shorter; a policy
// that lets out more lets out anything.
const maxDestinations = 256

// recordTime is how long the ledger has to take a record: no answer is not a yes.
const recordTime = 10 * time.Second

var errTooMany = errors.New("the application has reached more hosts than are recorded")

// tally counts decisions, so that an application that asks a thousand times a
// second makes a line now and then of the record, and not a thousand. A
// destination that is let out for the first time is recorded before it is
// reached. One that is not let out is counted, and its name is not recorded:
// what the application asks for would be a message to who reads the record.
type tally struct {
	record Record

	mu     sync.Mutex // guards what follows
	first  map[spec.Destination]*announcement
	counts map[counted]uint64 // since the last record
}

type counted struct {
	destination spec.Destination // zero: one that was not let out
	decision    string
}

// announcement is of a destination that is let out; err is there once done is
// closed.
type announcement struct {
	done chan struct{}
	err  error
}

func newTally(r Record) *tally {
	return &tally{record: r, first: map[spec.Destination]*announcement{}, counts: map[counted]uint64{}}
}

// refuse counts what was not let out.
func (t *tally) refuse(decision string) { t.count(spec.Destination{}, decision) }

// count counts a decision about a destination that is recorded by name.
func (t *tally) count(d spec.Destination, decision string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[counted{d, decision}]++
}

// allow counts what is let out. It returns nil once the record names the
// destination; an error lets nothing out.
func (t *tally) allow(ctx context.Context, d spec.Destination) error {
	t.mu.Lock()
	a, known := t.first[d]
	if !known && len(t.first) >= maxDestinations {
		t.mu.Unlock()
		return errTooMany
	}
	if !known {
		a = &announcement{done: make(chan struct{})}
		t.first[d] = a
	} else {
		t.counts[counted{d, Allowed}]++
	}
	t.mu.Unlock()
	if !known {
		t.announce(ctx, d, a)
	}
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// announce records a destination, for all that wait for it. One that could not be
// recorded is tried again with the next request.
func (t *tally) announce(ctx context.Context, d spec.Destination, a *announcement) {
	defer close(a.done)
	// Whoever asked first may go away; what is on its way to the ledger is seen
	// to its end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	a.err = t.record(ctx, []statement.EgressDecision{{Count: 1, Decision: Allowed, Host: d.Host, Port: d.Port}})
	if a.err != nil {
		t.mu.Lock()
		delete(t.first, d)
		t.mu.Unlock()
	}
}

// report records the counts. What could not be recorded is kept for the next time.
func (t *tally) report(ctx context.Context) error {
	t.mu.Lock()
	counts := t.counts
	t.counts = map[counted]uint64{}
	t.mu.Unlock()
	var list []statement.EgressDecision
	for c, n := range counts {
		list = append(list, statement.EgressDecision{Count: n, Decision: c.decision, Host: c.destination.Host, Port: c.destination.Port})
	}
	slices.SortFunc(list, statement.EgressDecision.Compare)
	for some := range slices.Chunk(list, statement.MaxEgress) {
		if err := t.record(ctx, some); err != nil {
			t.restore(counts)
			return err
		}
		for _, d := range some {
			delete(counts, counted{spec.Destination{Host: d.Host, Port: d.Port}, d.Decision})
		}
	}
	return nil
}

func (t *tally) restore(counts map[counted]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range slices.SortedFunc(maps.Keys(counts), func(a, b counted) int { return cmp.Compare(a.decision, b.decision) }) {
		t.counts[c] += counts[c]
	}
}
