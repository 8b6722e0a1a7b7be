//go:build linux

package mount

import "sync"

// handles gives open files the numbers that the kernel knows them by.
type handles[T any] struct {
	mu   sync.Mutex // guards all below
	open []*T       // by handle; nil where the handle is free
	free []uint64
}

func (h *handles[T]) keep(f *T) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.free); n > 0 {
		handle := h.free[n-1]
		h.free = h.free[:n-1]
		h.open[handle] = f
		return handle
	}
	h.open = append(h.open, f)
	return uint64(len(h.open) - 1)
}

// get returns nil for a number that is no open file's.
func (h *handles[T]) get(handle uint64) *T {
	h.mu.Lock()
	defer h.mu.Unlock()
	if handle >= uint64(len(h.open)) {
		return nil
	}
	return h.open[handle]
}

// take returns what get does and forgets it.
func (h *handles[T]) take(handle uint64) *T {
	h.mu.Lock()
	defer h.mu.Unlock()
	if handle >= uint64(len(h.open)) || h.open[handle] == nil {
		return nil
	}
	f := h.open[handle]
	h.open[handle] = nil
	h.free = append(h.free, handle)
	return f
}
