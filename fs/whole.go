package fs

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"runtime"

	"cloister/internal/fault"
)

// fetched is objects that were fetched whole, sealed, in memory: a store whose
// reads nobody outside sees. It is immutable once fetched.
type fetched struct {
	from    string
	objects map[string][]byte
}

// fetchWhole fetches objects one after the other, each from front to back, and
// opens every segment once: what the store is asked, and whether it is refused,
// is the same whatever is read later. Were damage found only by who reads it, a
// host could damage a segment and see by the run's course whether it was read.
func fetchWhole(ctx context.Context, s Store, objects iter.Seq2[*object, error]) (*fetched, error) {
	w := &fetched{from: s.String(), objects: map[string][]byte{}}
	b := benches.Get().(*bench)
	defer benches.Put(b)
	for o, err := range objects {
		if err != nil {
			return nil, err
		}
		sealed := manifestMemory(o.opener.SealedLen())
		runtime.AddCleanup(w, releaseMemory, sealed)
		for off := int64(0); off < int64(len(sealed)); off += maxRange {
			if err := s.Get(ctx, o.name, off, sealed[off:min(off+maxRange, int64(len(sealed)))]); err != nil {
				return nil, fmt.Errorf("fetching all of %s: %w", s, err)
			}
		}
		if err := o.check(sealed, b); err != nil {
			return nil, fmt.Errorf("fetching all of %s: %w", s, err)
		}
		w.objects[o.name] = sealed
	}
	return w, nil
}

// check opens every segment of a sealed object.
func (o *object) check(sealed []byte, b *bench) error {
	for i := range o.opener.Suite().Segments(o.opener.SealedLen()) {
		off, n := o.opener.Suite().SealedRange(i, o.opener.SealedLen())
		if _, err := o.opener.OpenSegment(b.plain[:0], sealed[off:off+n], i); err != nil {
			return &DamageError{Object: o.id, Segment: i, Err: err}
		}
	}
	return nil
}

// Local: a request costs the bytes it moves.
func (w *fetched) Local() bool { return true }

func (w *fetched) String() string { return w.from }

func (w *fetched) Get(_ context.Context, name string, off int64, p []byte) error {
	defer runtime.KeepAlive(w) // its memory is released with it
	sealed, err := w.object(name)
	if err == nil && off+int64(len(p)) > int64(len(sealed)) {
		err = fault.Errorf(fault.Refused, "", "object %s of %s ends at %d: %w", name, w, len(sealed), io.ErrUnexpectedEOF)
	}
	if err != nil {
		return err
	}
	copy(p, sealed[off:])
	return nil
}

func (w *fetched) Size(_ context.Context, name string) (int64, error) {
	sealed, err := w.object(name)
	return int64(len(sealed)), err
}

// List yields nothing: nobody looks for a volume in here.
func (w *fetched) List(context.Context, string) iter.Seq2[Entry, error] {
	return func(func(Entry, error) bool) {}
}

func (w *fetched) object(name string) ([]byte, error) {
	sealed, ok := w.objects[name]
	if !ok {
		return nil, fault.Errorf(fault.NotFound, "", "object %s of %s was not fetched: %w", name, w, fs.ErrNotExist)
	}
	return sealed, nil
}

// fetchWhole makes memory the volume's store, where grant allows its size.
func (v *Volume) fetchWhole(ctx context.Context, grant func(bytes int64) error) error {
	var need int64
	for i := range v.manifest.Objects() {
		need += v.manifest.Object(uint32(i)).SealedLen
	}
	if err := grant(need); err != nil {
		return fmt.Errorf("fetching all of %s: %w", v.store, err)
	}
	w, err := fetchWhole(ctx, v.store, func(yield func(*object, error) bool) {
		for i := range v.manifest.Objects() {
			if !yield(v.object(uint32(i))) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	v.store = w
	return nil
}
