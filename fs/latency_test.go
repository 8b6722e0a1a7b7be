package fs

import (
	"testing"
	"time"
)

// TestLatency: each is in the first range that has room for it, and in all beyond.
func TestLatency(t *testing.T) {
	var l Latency
	for _, d := range []time.Duration{0, 50 * time.Microsecond, 51 * time.Microsecond, 3 * time.Millisecond, time.Hour} {
		l.Took(d)
	}
	want := map[time.Duration]uint64{50 * time.Microsecond: 2, 200 * time.Microsecond: 3, time.Millisecond: 3, 5 * time.Millisecond: 4, 2500 * time.Millisecond: 4}
	last, seen := time.Duration(0), 0
	all, sum := l.Each(func(end time.Duration, atMost uint64) {
		if end <= last {
			t.Errorf("%s follows %s", end, last)
		}
		if n, ok := want[end]; ok {
			seen++
			if n != atMost {
				t.Errorf("%d took at most %s, want %d", atMost, end, n)
			}
		}
		last = end
	})
	if all != 5 || sum != time.Hour+3*time.Millisecond+101*time.Microsecond || seen != len(want) {
		t.Errorf("%d took %s; %d of %d ranges", all, sum, seen, len(want))
	}
}
