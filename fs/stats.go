package fs

import (
	"sync/atomic"
	"time"
)

// Stats counts what was asked of an input volume since it was opened.
type Stats struct {
	Reads, Bytes uint64 // File.ReadAt, and what it returned
	Hits, Misses uint64 // of the cache's ranges; a local store has no cache
}

type counters struct {
	reads, bytes atomic.Uint64
	took         Latency
}

func (c *counters) read(began time.Time, n int) {
	c.reads.Add(1)
	c.bytes.Add(uint64(n))
	c.took.Took(time.Since(began))
}

// ReadLatency is how long each File.ReadAt took since the volume was opened.
func (v *Volume) ReadLatency() *Latency { return &v.counters.took }

// Stats returns the counts up to now.
func (v *Volume) Stats() Stats {
	s := Stats{Reads: v.counters.reads.Load(), Bytes: v.counters.bytes.Load()}
	if v.cache != nil {
		s.Hits, s.Misses = v.cache.Counts()
	}
	return s
}

// Written returns how many bytes were written to the volume's files since it was
// opened, overwriting included.
func (o *Output) Written() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.written
}
