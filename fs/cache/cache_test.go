package cache

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const length = 1000

// source is an object store whose byte at off of object n is n+off.
type source struct {
	fetches atomic.Int64
	gate    chan struct{} // nil, or a fetch waits for it
	fail    atomic.Pointer[error]
}

func (s *source) fetch(ctx context.Context, object uint32, off int64, p []byte) error {
	s.fetches.Add(1)
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := s.fail.Load(); err != nil {
		return *err
	}
	for i := range p {
		p[i] = byte(int64(object) + off + int64(i))
	}
	return nil
}

func check(t *testing.T, r Range, object uint32, off int64) {
	t.Helper()
	if off < r.Off || off >= r.Off+int64(len(r.Data)) {
		t.Errorf("the range at %d of %d bytes does not cover %d", r.Off, len(r.Data), off)
		return
	}
	if got, want := r.Data[off-r.Off], byte(int64(object)+off); got != want {
		t.Errorf("byte %d of object %d is %d, want %d", off, object, got, want)
	}
}

func get(t *testing.T, c *Cache, object uint32, off, size int64) Range {
	t.Helper()
	r, err := c.Get(t.Context(), object, off, size, length)
	if err != nil {
		t.Fatal(err)
	}
	check(t, r, object, off)
	r.Release(0)
	return r
}

func TestRangesCoverEachOther(t *testing.T) {
	s := new(source)
	c := New(10_000, 16, 256, s.fetch)
	defer c.Close()
	for _, step := range []struct {
		object  uint32
		off     int64
		size    int64
		wantOff int64
		wantLen int
		fetches int64
	}{
		{1, 70, 16, 64, 16, 1},
		{1, 64, 16, 64, 16, 1},    // held
		{1, 65, 256, 64, 16, 1},   // held, although smaller than asked for
		{1, 80, 256, 0, 256, 2},   // not held: the large one
		{1, 255, 16, 0, 256, 2},   // held by the large one
		{2, 255, 16, 240, 16, 3},  // another object
		{1, 999, 64, 960, 40, 4},  // cut at the object's end
		{1, 990, 256, 960, 40, 4}, // held
	} {
		r := get(t, c, step.object, step.off, step.size)
		if r.Off != step.wantOff || len(r.Data) != step.wantLen || s.fetches.Load() != step.fetches {
			t.Errorf("%+v: range at %d of %d bytes, %d fetches", step, r.Off, len(r.Data), s.fetches.Load())
		}
	}
}

func TestBudget(t *testing.T) {
	s := new(source)
	c := New(64, 16, 64, s.fetch)
	defer c.Close()
	for off := range int64(4) {
		get(t, c, 1, off*16, 16)
	}
	get(t, c, 1, 0, 16) // used again: now the youngest
	get(t, c, 1, 64, 16)
	if before := s.fetches.Load(); before != 5 {
		t.Fatalf("%d fetches, want 5", before)
	}
	get(t, c, 1, 0, 16)
	if s.fetches.Load() != 5 {
		t.Error("the range used last was thrown out")
	}
	get(t, c, 1, 16, 16)
	if s.fetches.Load() != 6 {
		t.Error("the range used longest ago was kept beyond the budget")
	}
	get(t, c, 1, 128, 64)
	if c.used > 64 {
		t.Errorf("%d bytes held, the budget is 64", c.used)
	}
}

func TestEveryBudgetMakesProgress(t *testing.T) {
	s := new(source)
	c := New(1, 16, 64, s.fetch)
	defer c.Close()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range int64(50) {
				off := (i*37 + int64(g)*91) % length
				r, err := c.Get(t.Context(), 3, off, 16<<(i%3), length)
				if err != nil {
					t.Error(err)
					return
				}
				check(t, r, 3, off)
				r.Release(0)
			}
		})
	}
	wg.Wait()
}

// What was read from front to back is not held; what has the least size is.
func TestReadToTheEndIsForgotten(t *testing.T) {
	s := &source{}
	c := New(1000, 32, 64, s.fetch)
	defer c.Close()
	take := func(off, size, read int64) {
		t.Helper()
		r, err := c.Get(t.Context(), 1, off, size, length)
		if err != nil {
			t.Fatal(err)
		}
		r.Release(read)
	}
	for _, step := range []struct {
		off, size, read int64
		fetches         int64
		what            string
	}{
		{0, 64, 40, 1, "the first part of a range"},
		{40, 64, 0, 1, "nothing of the rest"},
		{40, 64, 24, 1, "the rest"},
		{0, 64, 0, 2, "it again"},
		{64, 32, 32, 3, "all of a range of the least size"},
		{64, 32, 32, 3, "it again"},
	} {
		if take(step.off, step.size, step.read); s.fetches.Load() != step.fetches {
			t.Fatalf("after reading %s: %d fetches, want %d", step.what, s.fetches.Load(), step.fetches)
		}
	}
}

func TestOneFlightForAll(t *testing.T) {
	s := &source{gate: make(chan struct{})}
	c := New(1000, 16, 64, s.fetch)
	defer c.Close()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			r, err := c.Get(t.Context(), 1, 40, 64, length)
			if err != nil {
				t.Error(err)
				return
			}
			check(t, r, 1, 40)
			r.Release(0)
		})
	}
	until(t, func() bool { return c.waiters() == 10 })
	close(s.gate)
	wg.Wait()
	if n := s.fetches.Load(); n != 1 {
		t.Errorf("%d fetches for one range", n)
	}
}

// waiters returns how many wait for anything.
func (c *Cache) waiters() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.entries {
		if e.element == nil {
			n += e.users
		}
	}
	return n
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited 20 s")
		}
	}
}

func TestErrorsAreSharedAndForgotten(t *testing.T) {
	s := &source{gate: make(chan struct{})}
	away := errors.New("away")
	s.fail.Store(&away)
	c := New(1000, 16, 64, s.fetch)
	defer c.Close()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if _, err := c.Get(t.Context(), 1, 0, 16, length); !errors.Is(err, away) {
				t.Errorf("Get: %v", err)
			}
		})
	}
	until(t, func() bool { return c.waiters() == 3 })
	close(s.gate)
	wg.Wait()
	if n := s.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	s.fail.Store(nil)
	get(t, c, 1, 0, 16)
	if c.used != 16 {
		t.Errorf("%d bytes are counted, 16 held", c.used)
	}
}

// TestLastWaiterGivesUp: a fetch goes on while anybody waits; who comes after
// it was given up gets a fresh one.
func TestLastWaiterGivesUp(t *testing.T) {
	s := &source{gate: make(chan struct{})}
	c := New(1000, 16, 64, s.fetch)
	defer c.Close()
	first, cancelFirst := context.WithCancel(t.Context())
	second, cancelSecond := context.WithCancel(t.Context())
	ends := make(chan error, 2)
	for _, ctx := range []context.Context{first, second} {
		go func() { _, err := c.Get(ctx, 1, 0, 16, length); ends <- err }()
	}
	until(t, func() bool { return c.waiters() == 2 })
	cancelFirst()
	if err := <-ends; !errors.Is(err, context.Canceled) {
		t.Errorf("first: %v", err)
	}
	if c.waiters() != 1 {
		t.Error("the fetch was given up although one waits")
	}
	cancelSecond()
	<-ends
	done := make(chan error)
	go func() { _, err := c.Get(t.Context(), 1, 0, 16, length); done <- err }()
	until(t, func() bool { return s.fetches.Load() == 2 })
	close(s.gate)
	if err := <-done; err != nil {
		t.Errorf("a Get after the fetch was given up: %v", err)
	}
}

func TestPrefetch(t *testing.T) {
	s := &source{gate: make(chan struct{})}
	c := New(128, 16, 64, s.fetch)
	ctx, cancel := context.WithCancel(t.Context())
	if !c.Prefetch(ctx, 1, 0, 64, length) || !c.Prefetch(ctx, 1, 16, 16, length) { // on its way
		t.Error("Prefetch finds no room for a range in an empty cache")
	}
	if c.Prefetch(ctx, 1, 64, 64, length) { // half the budget is on its way
		t.Error("Prefetch says that a range is on its way for which there is no room")
	}
	if n := len(c.entries); n != 1 {
		t.Errorf("%d ranges on their way, want 1", n)
	}
	cancel()
	until(t, func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.flights == 0 && c.used == 0 })
	c.Prefetch(t.Context(), 1, 0, 64, length)
	c.Close()
	if _, err := c.Get(t.Context(), 1, 0, 16, length); err == nil {
		t.Error("Get after Close succeeds")
	}
	if c.used != 0 || c.flights != 0 {
		t.Errorf("after Close: %d bytes, %d flights", c.used, c.flights)
	}
}

// TestPublishedIsImmutable: what was returned stays as it was until it is
// released, whatever is evicted meanwhile.
func TestPublishedIsImmutable(t *testing.T) {
	s := new(source)
	c := New(200, 16, 64, s.fetch)
	defer c.Close()
	var wg sync.WaitGroup
	for g := range uint64(6) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, 0))
			var kept []Range
			var copies [][]byte
			for range 300 {
				object, off := uint32(r.IntN(4)), r.Int64N(length)
				if r.IntN(4) == 0 {
					c.Prefetch(t.Context(), object, off, 64, length)
				}
				got, err := c.Get(t.Context(), object, off, 16<<r.IntN(3), length)
				if err != nil {
					t.Error(err)
					return
				}
				check(t, got, object, off)
				kept = append(kept, got)
				copies = append(copies, bytes.Clone(got.Data))
			}
			for i := range kept {
				if !bytes.Equal(kept[i].Data, copies[i]) {
					t.Error("a published range has changed")
				}
				kept[i].Release(0)
			}
		})
	}
	wg.Wait()
}

// TestMemoryIsUsedAgain: ranges take turns in the memory of those evicted before
// them, but for those that somebody still reads.
func TestMemoryIsUsedAgain(t *testing.T) {
	s := new(source)
	c := New(128, 16, 64, s.fetch)
	defer c.Close()
	read, err := c.Get(t.Context(), 1, 0, 64, length)
	if err != nil {
		t.Fatal(err)
	}
	memory := map[*byte]int{}
	for off := int64(64); off < 960; off += 64 {
		memory[&get(t, c, 1, off, 64).Data[0]]++
	}
	if len(memory) > 2 {
		t.Errorf("14 ranges of half the budget took %d pieces of memory, want 2", len(memory))
	}
	if memory[&read.Data[0]] > 0 {
		t.Error("the memory of a range that is being read was given away")
	}
	read.Release(0)
	get(t, c, 2, 0, 16) // of another size: what is spare beyond the budget goes
	if held := c.used + c.spare.bytes(); held > 128 {
		t.Errorf("%d bytes are held, the budget is 128", held)
	}
}
