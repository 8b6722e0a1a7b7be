package storetest

import (
	"context"
	"io"
	"iter"
	"strings"
	"sync"
	"time"

	"cloister/fs/store/object"
	"cloister/internal/fault"
)

// Op names a method of a store.
type Op string

// The methods a Fault can strike and a Call can record.
const (
	Get    Op = "Get"
	Size   Op = "Size"
	Put    Op = "Put"
	List   Op = "List"
	Delete Op = "Delete"
)

// Call is one call as Faulty saw it.
type Call struct {
	Op   Op
	Name string // the object, or List's prefix
	Off  int64  // Get only
	Len  int    // of p or data
	Err  error  // what the caller got; for List, of the end of the listing
}

// Fault says which calls fail, and how. Fields left at zero neither restrict
// nor do anything; several effects of one fault all happen, in the order of the
// fields below.
type Fault struct {
	Op   Op     // only this method
	Name string // only names that begin so
	Nth  int    // only the nth call, from 1, of those that Op and Name choose
	From int    // the nth such call and every one after it

	Wait  <-chan struct{} // held until it is closed or the context ends
	Delay time.Duration   // held for so long, or until the context ends
	Hook  func(Call)      // called before the store is
	Err   error           // returned without asking the store
	Short int             // Get: this many bytes arrive, then io.ErrUnexpectedEOF
	Flip  int             // Get: the Flip'th byte of what arrives, from 1, has a bit flipped
	Lost  error           // returned although the store has done it: a lost response
}

// Faulty is a store that fails as its faults say and records every call. Set
// Store and Faults before use; Calls may be asked for at any time.
type Faulty struct {
	Store  Store
	Faults []Fault

	mu    sync.Mutex // guards seen and calls
	seen  []int      // how often each fault was considered for a fitting call
	calls []Call
}

var _ Store = (*Faulty)(nil)

// Away is a fault's Err for a store that does not answer.
var Away = fault.Sentinel(fault.Unavailable, "the store does not answer (injected)")

// String names the store behind.
func (f *Faulty) String() string { return f.Store.String() }

// Calls returns the calls so far, in the order in which they ended.
func (f *Faulty) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Call(nil), f.calls...)
}

// Count returns how many calls of a method there were.
func (f *Faulty) Count(op Op) int {
	n := 0
	for _, c := range f.Calls() {
		if c.Op == op {
			n++
		}
	}
	return n
}

// Reset forgets the calls, sets other faults and counts them from one.
func (f *Faulty) Reset(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Faults, f.seen, f.calls = faults, nil, nil
}

// Get is the store's Get, with faults.
func (f *Faulty) Get(ctx context.Context, name string, off int64, p []byte) error {
	return f.run(ctx, Call{Op: Get, Name: name, Off: off, Len: len(p)}, func(fit []Fault) error {
		if err := f.Store.Get(ctx, name, off, p); err != nil {
			return err
		}
		for _, x := range fit {
			if x.Flip > 0 && x.Flip <= len(p) {
				p[x.Flip-1] ^= 1
			}
			if x.Short > 0 && x.Short < len(p) {
				clear(p[x.Short:])
				return fault.Errorf(fault.Refused, "", "reading object %s of %s: stopped after %d of %d bytes (injected): %w",
					name, f, x.Short, len(p), io.ErrUnexpectedEOF)
			}
		}
		return nil
	})
}

// Size is the store's Size, with faults.
func (f *Faulty) Size(ctx context.Context, name string) (size int64, err error) {
	err = f.run(ctx, Call{Op: Size, Name: name}, func([]Fault) error {
		size, err = f.Store.Size(ctx, name)
		return err
	})
	return size, err
}

// Put is the store's Put, with faults.
func (f *Faulty) Put(ctx context.Context, name string, data []byte) error {
	return f.run(ctx, Call{Op: Put, Name: name, Len: len(data)}, func([]Fault) error {
		return f.Store.Put(ctx, name, data)
	})
}

// Delete is the store's Delete, with faults.
func (f *Faulty) Delete(ctx context.Context, name string) error {
	return f.run(ctx, Call{Op: Delete, Name: name}, func([]Fault) error {
		return f.Store.Delete(ctx, name)
	})
}

// List is the store's List; a fault's Err comes first, a Lost one at the end.
func (f *Faulty) List(ctx context.Context, prefix string) iter.Seq2[object.Entry, error] {
	return func(yield func(object.Entry, error) bool) {
		stopped := false
		err := f.run(ctx, Call{Op: List, Name: prefix}, func([]Fault) error {
			for e, err := range f.Store.List(ctx, prefix) {
				if err != nil {
					return err
				}
				if stopped = !yield(e, nil); stopped {
					return nil
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(object.Entry{}, err)
		}
	}
}

// run applies the faults that fit c around do and records the call.
func (f *Faulty) run(ctx context.Context, c Call, do func([]Fault) error) error {
	fit := f.fitting(c)
	c.Err = before(ctx, c, fit)
	if c.Err == nil {
		c.Err = do(fit)
		for _, x := range fit {
			if c.Err == nil && x.Lost != nil {
				c.Err = x.Lost
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, c)
	return c.Err
}

func (f *Faulty) fitting(c Call) []Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.seen) != len(f.Faults) {
		f.seen = make([]int, len(f.Faults))
	}
	var fit []Fault
	for i, x := range f.Faults {
		if x.Op != "" && x.Op != c.Op || !strings.HasPrefix(c.Name, x.Name) {
			continue
		}
		f.seen[i]++
		if (x.Nth == 0 || x.Nth == f.seen[i]) && f.seen[i] >= x.From {
			fit = append(fit, x)
		}
	}
	return fit
}

func before(ctx context.Context, c Call, fit []Fault) error {
	for _, x := range fit {
		if err := hold(ctx, x); err != nil {
			return err
		}
		if x.Hook != nil {
			x.Hook(c)
		}
		if x.Err != nil {
			return x.Err
		}
	}
	return nil
}

func hold(ctx context.Context, x Fault) error {
	if x.Wait != nil {
		select {
		case <-x.Wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if x.Delay > 0 {
		select {
		case <-time.After(x.Delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
