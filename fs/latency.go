package fs

import (
	"sync/atomic"
	"time"
)

// latencyEnds are the upper ends of what latencies are counted in: from a read that
// is answered out of memory, tens of microseconds (BENCHMARKS.md), to one that waits
// for a store that is in trouble.
var latencyEnds = [...]time.Duration{50 * time.Microsecond, 200 * time.Microsecond, time.Millisecond, 5 * time.Millisecond,
	25 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, 2500 * time.Millisecond}

// Latency counts how long something took, each time. Its zero value is ready, and it
// may be used by many at once.
type Latency struct {
	counts      [len(latencyEnds) + 1]atomic.Uint64 // the last: longer
	nanoseconds atomic.Uint64
}

// Took counts one.
func (l *Latency) Took(d time.Duration) {
	i := 0
	for i < len(latencyEnds) && d > latencyEnds[i] {
		i++
	}
	l.counts[i].Add(1)
	l.nanoseconds.Add(uint64(d))
}

// Each yields the upper end of each range, in rising order, and how many took no
// longer; it returns how many there were in all, and how long they took together.
func (l *Latency) Each(yield func(end time.Duration, atMost uint64)) (all uint64, sum time.Duration) {
	sum = time.Duration(l.nanoseconds.Load())
	for i, end := range latencyEnds {
		all += l.counts[i].Load()
		yield(end, all)
	}
	return all + l.counts[len(latencyEnds)].Load(), sum
}
