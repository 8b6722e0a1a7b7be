// Package diskcache keeps parts of a store's data objects in a directory of this
// machine, so that a second reader, or the same one after a restart, need not
// fetch them again. It knows bytes, not formats: what it keeps is what the store
// holds, ciphertext.
//
// Life of a Get: the range is looked for block by block in the object's slab
// files; a block whose checksum holds is served; what is missing is asked of the
// store in one request and written behind the answer. Fresh is Get past the
// directory, for a caller who found that the bytes are not what was sealed.
//
// What a directory can do: nothing but cost time. A checksum finds damage, the
// reader's AEAD finds forgery and asks Fresh. A slab file is written only if
// this package made it, a link in the directory leads nowhere outside it, and a
// directory that is full, read-only or gone is done without. Nothing in it is
// needed, so nothing is synced, renamed or locked: objects are immutable, and
// two processes that write the same block write the same bytes.
//
// What it costs: on disk, Options.Size (see budget); in memory, nothing that
// grows with it.
package diskcache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"cloister/fs/store/object"
	"cloister/internal/fault"
)

// Origin is the store behind the cache.
type Origin interface {
	Get(ctx context.Context, name string, off int64, p []byte) error
	Size(ctx context.Context, name string) (int64, error)
	Put(ctx context.Context, name string, data []byte) error
	List(ctx context.Context, prefix string) iter.Seq2[object.Entry, error]
	Delete(ctx context.Context, name string) error
	Close() error
	String() string
}

// Options say where and how much. Dir and Size are required.
type Options struct {
	// Dir is made, readable by its owner only, where it is absent. Several
	// processes and volumes may share it.
	Dir string
	// Size bounds what the directory takes of its disk, in bytes; at least
	// MinSize.
	Size int64
	// Log gets one line when the directory cannot be used; nil discards it.
	Log *slog.Logger
}

// MinSize is the least Options.Size: below it the steps in which the directory
// is filled and emptied, minStep, would be most of it.
const MinSize = 4 * minStep

// Store is a store with a cache in front. It is safe for concurrent use.
type Store struct {
	Origin
	volume string // the directory of this origin's objects
	keeps  func(name string) bool
	log    *slog.Logger
	place  place
	budget *budget
	making sync.Mutex // held while a slab file is made

	ending atomic.Bool
	walks  sync.WaitGroup
}

// Open puts a cache in front of a store, which it takes over. A directory that
// cannot be used is logged and done without; only one that can never be, because
// something else has its name, is an error.
func Open(origin Origin, o Options) (*Store, error) {
	if o.Size < MinSize {
		return nil, fault.Errorf(fault.Usage, "give it at least 128MiB", "a cache of %d bytes is too small", o.Size)
	}
	id := sha256.Sum256([]byte(origin.String()))
	s := &Store{Origin: origin, volume: hex.EncodeToString(id[:16]), keeps: isData, log: o.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.place = place{dir: o.Dir, retry: retryAfter}
	if err := s.place.open(); errors.Is(err, syscall.ENOTDIR) {
		return nil, fault.Errorf(fault.Usage, "name a directory", "opening the cache: %w", err)
	} else if err != nil {
		s.trouble(err)
	}
	s.budget = newBudget(o.Size)
	s.walk()
	return s, nil
}

// isData reports whether an object is one that only its sealed bytes identify:
// a data object. A manifest or journal record is looked for because it may be
// there by now, and must come from the store itself.
func isData(name string) bool { return path.Base(path.Dir(name)) == "data" }

// Get fills p with the object's bytes from offset off, as the store's Get does.
func (s *Store) Get(ctx context.Context, name string, off int64, p []byte) error {
	slabs, ok := s.slabs(name)
	if !ok || len(p) == 0 || off < 0 || off > maxOffset {
		return s.Origin.Get(ctx, name, off, p)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	missing := s.read(slabs, off, p)
	if missing.empty() {
		return nil
	}
	fetched := p[missing.begin-off : missing.end-off]
	if err := s.Origin.Get(ctx, name, missing.begin, fetched); err != nil {
		return err
	}
	s.write(slabs, missing.begin, fetched)
	return nil
}

// Fresh fills p as Get does, from the store itself, and forgets what the
// directory has of it.
func (s *Store) Fresh(ctx context.Context, name string, off int64, p []byte) error {
	if slabs, ok := s.slabs(name); ok && off >= 0 && off <= maxOffset {
		s.forget(slabs, off, int64(len(p)))
	}
	return s.Origin.Get(ctx, name, off, p)
}

// Delete removes the object from the store, and what the directory has of it.
func (s *Store) Delete(ctx context.Context, name string) error {
	if slabs, ok := s.slabs(name); ok {
		if root := s.place.get(); root != nil {
			_ = root.RemoveAll(slabs.dir) // what stays is evicted in time
		}
	}
	return s.Origin.Delete(ctx, name)
}

// Close closes the cache and the store.
func (s *Store) Close() error {
	s.ending.Store(true)
	s.walks.Wait()
	s.place.close()
	return s.Origin.Close()
}

// slabs returns the slabs of an object that is kept. Names have no comma, so the
// directory's name stands for one object only; one that is too long for a
// directory is not kept.
func (s *Store) slabs(name string) (slabs, bool) {
	flat := strings.ReplaceAll(name, "/", ",")
	if !s.keeps(name) || !object.Valid(name) || len(flat) > 255 {
		return slabs{}, false
	}
	return slabs{name: name, dir: s.volume + "/" + flat, making: &s.making}, true
}

// read fills p with what the directory has of an object's bytes from off, and
// returns the least range that covers the rest.
func (s *Store) read(o slabs, off int64, p []byte) (missing span) {
	root := s.place.get()
	if root == nil {
		return span{off, off + int64(len(p))}
	}
	for at, part := range inSlabs(off, p) {
		missing = missing.join(o.read(root, at, part))
	}
	return missing
}

// write keeps what was fetched, as far as the budget allows.
func (s *Store) write(o slabs, off int64, p []byte) {
	if s.ending.Load() || !s.take(int64(len(p))) {
		return
	}
	if err := s.tryWrite(o, off, p); err != nil {
		s.trouble(err)
	}
}

func (s *Store) tryWrite(o slabs, off int64, p []byte) error {
	root, err := s.place.writable()
	if root == nil || err != nil {
		return err
	}
	for at, part := range inSlabs(off, p) {
		err := o.write(root, at, part)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// An eviction took the directory, or somebody the whole cache: this
			// range is not kept, the next one will be.
			return s.place.open()
		case err != nil && !errors.Is(err, errForeign): // not yet a slab: another process is at it
			return err
		}
	}
	return nil
}

func (s *Store) forget(o slabs, off, n int64) {
	root := s.place.get()
	if root == nil {
		return
	}
	for at := off - off%slabSize; at < off+n; at += slabSize {
		o.clear(root, at, span{max(at, off), min(at+slabSize, off+n)})
	}
}

// trouble stops writing for a while, and says so once.
func (s *Store) trouble(err error) {
	if first := s.place.pause(); first {
		s.log.Warn("the cache cannot be written to; reads go on without it", "cache", s.place.dir, "error", err)
	}
}

// discard closes what was only read, or only writes what may be lost.
func discard(c io.Closer) { _ = c.Close() }
