package fs

import (
	"context"
	"slices"
	"sync"
	"time"
)

// pace is how many ranges are worth having on their way for one reader: as many
// as make enough of a rate together. A distant store needs many. From one that
// is near, more than a few are in each other's way, and in ours: Azurite on two
// cores gives a reader 900 MiB/s with one to three ahead, 630 with four, 570
// with sixteen.
type pace struct {
	mu     sync.Mutex            // guards all below
	recent [recentRanges]float64 // what the last ones took, in seconds a byte
	taken  int
}

const (
	minPace = 2
	maxPace = 32

	// recentRanges is of how many of the last ones the fastest counts: what a
	// range takes that was retried, or that had to queue, says nothing of the
	// line.
	recentRanges = 16

	// toldRange is from which size on a range tells of the line's rate, and not
	// of how soon it answers; localRate, in bytes a second, is from where on it
	// came from a cache on disk, and tells nothing.
	toldRange = 256 << 10
	localRate = 3 << 30

	// enoughRate, in bytes a second, is well below what two cores open and serve
	// of what comes over a network, so that it is the line that asks for more.
	enoughRate = 512 << 20
)

// ahead returns how many ranges may be on their way.
func (p *pace) ahead() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(p.taken, recentRanges)
	if n == 0 {
		return minPace
	}
	return min(max(int64(slices.Min(p.recent[:n])*enoughRate+1), minPace), maxPace)
}

// took is told how long a range of n bytes took.
func (p *pace) took(d time.Duration, n int64) {
	if n < toldRange || float64(n) > localRate*d.Seconds() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recent[p.taken%recentRanges] = d.Seconds() / float64(n)
	p.taken++
}

// paced is a store that tells a pace how long its ranges take, from the
// manifest's on.
type paced struct {
	Store
	pace *pace
}

func (s paced) Get(ctx context.Context, name string, off int64, p []byte) error {
	begin := time.Now()
	err := s.Store.Get(ctx, name, off, p)
	if err == nil {
		s.pace.took(time.Since(begin), int64(len(p)))
	}
	return err
}
