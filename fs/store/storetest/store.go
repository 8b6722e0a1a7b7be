// Package storetest holds what tests of stores, and of what stands on stores,
// share: the conformance suite that every store passes, a store in memory, and
// a store that fails when told to.
//
// Life of a test: a store's own tests hand Run a function that opens an empty
// store, and every promise of the interface is tried on it. The tests of a
// consumer put a Faulty in front of a Memory, script the faults, run the
// consumer, and look at the calls that were recorded.
package storetest

import (
	"bytes"
	"context"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"cloister/fs/store/object"
	"cloister/internal/fault"
)

// Store is the method set that every store has.
type Store interface {
	Get(ctx context.Context, name string, off int64, p []byte) error
	Size(ctx context.Context, name string) (int64, error)
	Put(ctx context.Context, name string, data []byte) error
	List(ctx context.Context, prefix string) iter.Seq2[object.Entry, error]
	Delete(ctx context.Context, name string) error
	String() string
}

// Memory is a store in memory. Its zero value is empty and ready for use; it is
// safe for concurrent use.
type Memory struct {
	mu      sync.Mutex // guards objects
	objects map[string][]byte
}

var _ Store = (*Memory)(nil)

// String returns "memory".
func (m *Memory) String() string { return "memory" }

// Get fills p with the object's bytes from off.
func (m *Memory) Get(ctx context.Context, name string, off int64, p []byte) error {
	data, err := m.object(ctx, "reading", name)
	if err != nil {
		return err
	}
	if off < 0 || off+int64(len(p)) > int64(len(data)) {
		return fault.Errorf(fault.Refused, "", "reading object %s of %s: it has %d bytes, %d were asked for at %d: %w",
			name, m, len(data), len(p), off, io.ErrUnexpectedEOF)
	}
	copy(p, data[off:])
	return nil
}

// Size returns the object's length in bytes.
func (m *Memory) Size(ctx context.Context, name string) (int64, error) {
	data, err := m.object(ctx, "looking for", name)
	return int64(len(data)), err
}

func (m *Memory) object(ctx context.Context, doing, name string) ([]byte, error) {
	if err := check(ctx, name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.objects[name]
	if !ok {
		return nil, fault.Errorf(fault.NotFound, "", "%s object %s of %s: %w", doing, name, m, object.ErrNotExist)
	}
	return data, nil
}

// Put makes the object; a name that is taken is an error.
func (m *Memory) Put(ctx context.Context, name string, data []byte) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[name]; ok {
		return fault.Errorf(fault.Conflict, "", "writing object %s of %s: %w", name, m, object.ErrExist)
	}
	if m.objects == nil {
		m.objects = map[string][]byte{}
	}
	m.objects[name] = bytes.Clone(data)
	return nil
}

// Overwrite replaces an object, as only an attacker can. Memory only.
func (m *Memory) Overwrite(name string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.objects == nil {
		m.objects = map[string][]byte{}
	}
	m.objects[name] = bytes.Clone(data)
}

// Clone returns a copy of the store as it is now: what is left after a crash.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Memory{objects: maps.Clone(m.objects)} // objects are never changed in place
}

// List yields the objects whose names begin with prefix, sorted by name, as
// they were when it was called.
func (m *Memory) List(ctx context.Context, prefix string) iter.Seq2[object.Entry, error] {
	return func(yield func(object.Entry, error) bool) {
		for _, e := range m.entries(prefix) {
			if err := ctx.Err(); err != nil {
				yield(object.Entry{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (m *Memory) entries(prefix string) []object.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	var entries []object.Entry
	for _, name := range slices.Sorted(maps.Keys(m.objects)) {
		if strings.HasPrefix(name, prefix) {
			entries = append(entries, object.Entry{Name: name, Size: int64(len(m.objects[name]))})
		}
	}
	return entries
}

// Delete removes the object; one that is not there is not an error.
func (m *Memory) Delete(ctx context.Context, name string) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, name)
	return nil
}

func check(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return object.CheckName(name)
}
