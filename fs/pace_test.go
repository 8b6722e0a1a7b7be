package fs

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	var p pace
	// fetch has a reader fetch ranges that take the time that the store says, for
	// as many as are on their way.
	fetch := func(ranges int, store func(i int, ahead int64) time.Duration) int64 {
		for i := range ranges {
			p.took(store(i, p.ahead()), maxRange)
		}
		return p.ahead()
	}
	near := func(_ int, ahead int64) time.Duration { return time.Duration(ahead) * 9 * time.Millisecond } // they queue
	far := func(int, int64) time.Duration { return 800 * time.Millisecond }
	for _, step := range []struct {
		what   string
		ranges int
		store  func(i int, ahead int64) time.Duration
		want   int64
	}{
		{"before anything is known", 0, near, minPace},
		{"from a store that is near", 100, near, minPace},
		{"on a long line", recentRanges, far, maxPace},
		{"on a long line, one in three retried", 100, func(i int, n int64) time.Duration {
			if i%3 == 0 {
				return time.Minute
			}
			return far(i, n)
		}, maxPace},
		{"on a long line, one in three from a cache on disk", 100, func(i int, n int64) time.Duration {
			if i%3 == 0 {
				return time.Millisecond
			}
			return far(i, n)
		}, maxPace},
		{"from a store that is near again", 200, near, minPace},
		{"at 100 MiB/s a connection", recentRanges, func(int, int64) time.Duration { return 80 * time.Millisecond }, 6},
	} {
		if got := fetch(step.ranges, step.store); got != step.want {
			t.Errorf("%d ranges ahead %s, want %d", got, step.what, step.want)
		}
	}
}
