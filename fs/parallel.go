package fs

import (
	"sync"
	"sync/atomic"
)

// parallel calls do for 0 to n-1, in that order of beginning, from up to
// workers goroutines of which the caller's is one. After an error it begins no
// more; it returns the error of the lowest index that failed, which is then
// below every index that was not begun.
func parallel(n, workers int, do func(i int) error) (failed int, err error) {
	var next atomic.Int64
	var stop atomic.Bool
	var mu sync.Mutex // guards failed and err
	work := func() {
		for !stop.Load() {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			if e := do(i); e != nil {
				stop.Store(true)
				mu.Lock()
				if err == nil || i < failed {
					failed, err = i, e
				}
				mu.Unlock()
			}
		}
	}
	var wg sync.WaitGroup
	for range min(n, workers) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	return failed, err
}
