package governance

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"cloister/governance/statement"

	"golang.org/x/mod/sumdb/tlog"
)

// opened is an entry on which everything is done that needs no State: that is
// nearly all of the work, and can be done for many at once.
type opened struct {
	*statement.Opened
	err  error // why there is none
	leaf tlog.Hash
}

func open(entry []byte) opened {
	o, err := statement.Open(entry)
	if err != nil {
		return opened{nil, err, tlog.RecordHash(entry)}
	}
	return opened{o, nil, o.Leaf()}
}

// batch is what one read of a log brought.
type batch struct {
	entries [][]byte
	opened  []opened
	err     error
}

// readAhead reads and opens a log's entries, on all processors, one batch beside
// the one that is folded. An empty batch and one with an error are the last. Once
// stop has returned nothing reads the log any more.
func readAhead(ctx context.Context, log Source, from, to int64) (_ <-chan batch, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	batches := make(chan batch)
	go func() {
		defer close(batches)
		for from < to {
			b := readBatch(ctx, log, from, to)
			select {
			case batches <- b:
			case <-ctx.Done():
				return
			}
			if b.err != nil || len(b.entries) == 0 {
				return
			}
			from += int64(len(b.entries))
		}
	}()
	return batches, func() {
		cancel()
		for range batches { // until it is closed
		}
	}
}

func readBatch(ctx context.Context, log Source, from, to int64) (b batch) {
	if b.entries, b.err = log.Entries(ctx, from, to); b.err == nil {
		b.opened = openAll(b.entries)
	}
	return b
}

func openAll(entries [][]byte) []opened {
	list := make([]opened, len(entries))
	parallel(len(list), func(i int) { list[i] = open(entries[i]) })
	return list
}

// verifyAhead checks the signatures of entries that follow those that s has folded,
// on all processors, with the keys that they name where s or the entries themselves
// bring those. Whether such a key may sign is for the fold to say.
func verifyAhead(list []opened, s *State) {
	brought := map[string]statement.PublicKey{}
	for _, e := range list {
		if e.err == nil {
			bringKeys(brought, e.Body)
		}
	}
	parallel(len(list), func(i int) {
		if list[i].err == nil {
			list[i].VerifyAhead(s.keysFor(list[i].Body, brought))
		}
	})
}

// bringKeys notes the signing keys that a statement introduces.
func bringKeys(keys map[string]statement.PublicKey, body statement.Body) {
	bring := func(spki []byte) {
		if key, err := statement.ParsePublicKey(spki); err == nil {
			keys[key.Fingerprint()] = key
		}
	}
	switch b := body.(type) {
	case *statement.Propose:
		for _, p := range b.Contract.Parties {
			bring(p.Key)
		}
	case *statement.Amend:
		for _, p := range b.Contract.Parties {
			bring(p.Key)
		}
	case *statement.Rotate:
		bring(b.Key)
		bring(b.Recovery)
	case *statement.RunBegin:
		bring(b.AuditKey)
	}
}

// keysFor finds the key that a statement names. It only reads s.
func (s *State) keysFor(body statement.Body, brought map[string]statement.PublicKey) func(string) (statement.PublicKey, bool) {
	return func(fingerprint string) (statement.PublicKey, bool) {
		if key, ok := brought[fingerprint]; ok {
			return key, true
		}
		if by, ok := s.keys[fingerprint]; ok {
			return by.key, true
		}
		if b, ok := body.(statement.RunBody); ok {
			if r, ok := s.run(b.Header().ID); ok {
				return r.key, true
			}
		}
		return statement.PublicKey{}, false
	}
}

// parallel calls do for 0 to n-1, on as many processors as there are.
func parallel(n int, do func(i int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	workers.Wait()
}
