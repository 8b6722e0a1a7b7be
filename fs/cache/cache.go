// Package cache keeps ranges of objects in memory within a budget of bytes. It
// knows bytes, not formats.
//
// Life of a Get: a range that is held and covers the offset is returned at
// once; one that is on its way is waited for; otherwise the range is fetched,
// once for all who ask meanwhile, after older ranges have made room. Each
// waiter keeps its own context; the fetch ends when the last of them has left.
// A failed fetch is an answer to those who waited for it, and is not kept. The
// memory of a range that was evicted, once its last reader has released it,
// serves the next one: memory that is fresh from the system costs as much as
// fetching. What a reader from front to back has been given is not held on to.
package cache

import (
	"container/list"
	"context"
	"sync"
)

// Fetch fills p with the bytes of an object from off.
type Fetch func(ctx context.Context, object uint32, off int64, p []byte) error

// Range is a run of an object's bytes. It is immutable until Release, which
// its reader calls once and after which Data is not to be read any more.
type Range struct {
	Off  int64
	Data []byte

	cache *Cache
	entry *entry
}

// Release gives the range back, of which read bytes were used. One that has been
// used as often as it has bytes is forgotten, unless it is of the least size: a
// reader from front to back does not come again (the kernel keeps what it
// showed), and the next range is faster into memory that the processor's caches
// still hold. What is read at random stays.
func (r Range) Release(read int64) { r.cache.leave(r.entry, read) }

// Cache is safe for concurrent use.
type Cache struct {
	fetch            Fetch
	budget           int64 // bytes
	minSize, maxSize int64

	mu      sync.Mutex // guards all below and the fields of entry; never held across a fetch
	entries map[key]*entry
	recent  *list.List // of *entry, those held, most recently used first
	used    int64      // bytes held and on their way
	spare   spare
	hits    uint64 // Gets that found their range held or on its way
	misses  uint64
	flying  int64         // bytes on their way
	flights int           // fetches under way
	room    chan struct{} // closed and replaced when a fetch ends
	closed  bool
	running sync.WaitGroup
}

type key struct {
	object    uint32
	off, size int64
}

type entry struct {
	key
	data    []byte
	err     error
	done    chan struct{} // closed when data or err is set
	users   int           // who wait for it or read it
	unread  int64         // bytes of it that nobody has used yet, each counted once
	cancel  context.CancelFunc
	element *list.Element // in recent; nil while on its way, and once evicted
}

// New returns a cache of at most budget bytes, held and on their way. Ranges
// are of sizes from minSize to maxSize, powers of two. One range is always let
// through, whatever the budget.
func New(budget, minSize, maxSize int64, fetch Fetch) *Cache {
	return &Cache{fetch: fetch, budget: budget, minSize: minSize, maxSize: maxSize,
		entries: map[key]*entry{}, recent: list.New(), spare: spare{}, room: make(chan struct{})}
}

// Get returns a range that covers off. Where none is held or on its way, the
// aligned one of the given size (a power of two within the cache's limits,
// cut at length, the object's own) is fetched.
func (c *Cache) Get(ctx context.Context, object uint32, off, size, length int64) (Range, error) {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return Range{}, context.Canceled
		}
		e := c.covering(object, off)
		if e != nil {
			c.hits++
		} else if e = c.launch(object, off, size, length, c.budget); e != nil {
			c.misses++
		}
		if e == nil {
			room := c.room
			c.mu.Unlock()
			select {
			case <-room:
				continue
			case <-ctx.Done():
				return Range{}, ctx.Err()
			}
		}
		e.users++
		if e.element != nil {
			c.recent.MoveToFront(e.element)
			c.mu.Unlock()
			return c.reading(e), nil
		}
		c.mu.Unlock()
		return c.wait(ctx, e)
	}
}

// Counts returns how many Gets found their range held or on its way, and how many
// fetched it.
func (c *Cache) Counts() (hits, misses uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hits, c.misses
}

// Prefetch begins to fetch what Get would, and reports false where it does not
// because ranges on their way already take half the budget. It does not wait;
// when ctx ends before the fetch and nobody else waits, the fetch is given up.
func (c *Cache) Prefetch(ctx context.Context, object uint32, off, size, length int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || ctx.Err() != nil || c.covering(object, off) != nil {
		return true
	}
	e := c.launch(object, off, size, length, c.budget/2)
	if e == nil {
		return false
	}
	e.users++
	c.running.Go(func() {
		if r, err := c.wait(ctx, e); err == nil {
			r.Release(0)
		}
	})
	return true
}

// Close gives up what is on its way, waits for it to end, and forgets
// everything. Get fails afterwards; what was got may still be read.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	for _, e := range c.entries {
		if e.element == nil {
			e.cancel()
		}
	}
	c.mu.Unlock()
	c.running.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
	for ; c.recent.Len() > 0; c.recent.Remove(c.recent.Front()) {
		c.recent.Front().Value.(*entry).element = nil
	}
	c.spare.trim(0)
	c.used = 0
}

// covering returns the entry to use for off: one that is held, or else the
// largest on its way. mu is held.
func (c *Cache) covering(object uint32, off int64) (found *entry) {
	for size := c.maxSize; size >= c.minSize; size /= 2 {
		e := c.entries[key{object, off &^ (size - 1), size}]
		if e != nil && e.element != nil {
			return e
		}
		if found == nil {
			found = e
		}
	}
	return found
}

// launch starts a fetch if bytes on their way stay below limit and room can be
// made; otherwise it returns nil. With nothing on its way it always starts, so
// that every budget makes progress. mu is held.
func (c *Cache) launch(object uint32, off, size, length, limit int64) *entry {
	k := key{object, off &^ (size - 1), size}
	n := min(size, length-k.off)
	if c.flights > 0 && c.flying+n > limit {
		return nil
	}
	c.evict(n)
	ctx, cancel := context.WithCancel(context.Background())
	e := &entry{key: k, data: c.spare.take(n), done: make(chan struct{}), cancel: cancel, unread: n}
	c.entries[k] = e
	c.used += n
	c.spare.trim(c.budget - c.used)
	c.flying += n
	c.flights++
	c.running.Go(func() { c.fly(ctx, e, n) })
	return e
}

// evict makes room for n bytes, as far as ranges that are held can. mu is held.
func (c *Cache) evict(n int64) {
	for c.used+n > c.budget && c.recent.Len() > 0 {
		e := c.recent.Back().Value.(*entry)
		c.forget(e)
		c.recycle(e)
	}
}

// forget ends the holding of a range. mu is held.
func (c *Cache) forget(e *entry) {
	c.recent.Remove(e.element)
	e.element = nil
	delete(c.entries, e.key)
	c.used -= int64(len(e.data))
}

// recycle gives the memory of a range to the next one, unless the range is
// held, or somebody reads it: then he will. mu is held.
func (c *Cache) recycle(e *entry) {
	if e.users > 0 || e.element != nil {
		return
	}
	c.spare.put(e.data)
	e.data = nil
	c.spare.trim(c.budget - c.used)
}

func (c *Cache) fly(ctx context.Context, e *entry, n int64) {
	if e.data == nil {
		e.data = make([]byte, n)
	}
	err := c.fetch(ctx, e.object, e.off, e.data)
	c.mu.Lock()
	defer c.mu.Unlock()
	e.cancel()
	c.flying -= n
	c.flights--
	e.err = err
	switch kept := c.entries[e.key] == e; {
	case err == nil && kept:
		e.element = c.recent.PushFront(e)
	case kept:
		delete(c.entries, e.key)
		fallthrough
	default:
		c.used -= n
		c.recycle(e)
	}
	close(e.done)
	close(c.room)
	c.room = make(chan struct{})
}

// wait waits for a fetch on behalf of one user, whom the caller has counted.
func (c *Cache) wait(ctx context.Context, e *entry) (Range, error) {
	select {
	case <-e.done:
		if e.err != nil {
			c.leave(e, 0)
			return Range{}, e.err
		}
		return c.reading(e), nil
	case <-ctx.Done():
		c.leave(e, 0)
		return Range{}, ctx.Err()
	}
}

func (c *Cache) reading(e *entry) Range { return Range{e.off, e.data, c, e} }

// leave counts a user out. The last one gives up a fetch that is under way; who
// comes later must not share its end.
func (c *Cache) leave(e *entry, read int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.users--
	select {
	case <-e.done:
		if e.unread -= read; e.unread <= 0 && e.size > c.minSize && e.element != nil {
			c.forget(e)
		}
		c.recycle(e)
		return
	default:
	}
	if e.users == 0 && c.entries[e.key] == e {
		delete(c.entries, e.key)
		e.cancel()
	}
}
