package fs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// An output that is published at its end (OutputOptions.AtEnd) keeps all that is
// written in memory until Close. Before that the store is asked what opening
// takes, the same whatever is written: the listing, the old state, of which
// everything is fetched, and one record that claims the epoch. fsync promises
// nothing then, and what does not fit is ENOSPC.
//
// What Close puts is of sizes that show the number of bits of what they hold and
// no more: data objects, all of one length, a power of two from leastAtEnd to
// mostAtEnd, and of the longest a power of two of them; and a manifest, padded to
// a power of two. A failed put is tried again with the same bytes, so that no
// failure that a store makes up tells it more. That nothing was written shows.
const (
	// leastAtEnd is enough for most results to look the same, and no upload that
	// anybody waits for.
	leastAtEnd = 64 << 10
	// mostAtEnd is what block stores serve best in one request: see maxRange.
	mostAtEnd = 8 << 20
)

// atEndSizes returns how many objects, and of which sealed length, hold n bytes,
// n > 0, in whole pages: an object ends with the page that fills it.
func atEndSizes(n int64) (objects, sealedLen int64) {
	holds := func() int64 {
		plain, _ := format.Suite16K.PlainLen(sealedLen) // there is a stream of each power of two
		return plain - pageSize
	}
	for objects, sealedLen = 1, leastAtEnd; objects*holds() < n; {
		if sealedLen < mostAtEnd {
			sealedLen *= 2
		} else {
			objects *= 2
		}
	}
	return objects, sealedLen
}

// jobsAtEnd packs all pages into as many objects as their sizes say, equally.
func (o *Output) jobsAtEnd(files []*frozenFile) (jobs []*job) {
	var total, packed int64
	for _, file := range files {
		for _, pg := range file.pages {
			total += pg.spans.bytes(0, pageSize)
		}
	}
	if total == 0 {
		return nil
	}
	objects, sealedLen := atEndSizes(total)
	var j *job
	for _, file := range files {
		for _, pg := range file.pages {
			if int64(len(jobs))*total <= packed*objects { // the share of those before is full
				j = o.newJob()
				j.sealedLen = sealedLen
				jobs = append(jobs, j)
			}
			before := j.length
			j.add(file, pg)
			packed += int64(j.length - before)
		}
	}
	return jobs
}

// sealAtEnd seals and puts all pages, an object after the other.
func (o *Output) sealAtEnd(ctx context.Context, files []*frozenFile) error {
	s := <-o.sealers
	defer func() { o.sealers <- s }()
	for _, j := range o.jobsAtEnd(files) {
		o.put = append(o.put, j.obj.ID)
		if err := o.sealJob(ctx, j, s); err != nil {
			return err
		}
	}
	return nil
}

// putAgain puts an object, the same bytes each time, as often as Close has
// patience.
func (o *Output) putAgain(ctx context.Context, name string, sealed []byte) (err error) {
	for try := range closeTries {
		if err = putOnce(ctx, o.store, name, sealed); err == nil || errors.Is(err, errTaken) || try == closeTries-1 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second << try):
		}
	}
	return err
}

// padManifest appends zeros, so that the sealed length is a power of two.
func padManifest(plaintext []byte) []byte {
	target := int64(leastAtEnd)
	for target < format.Suite16K.SealedLen(int64(len(plaintext))) {
		target *= 2
	}
	padded, _ := format.Suite16K.PlainLen(target)
	return append(plaintext, make([]byte, padded-int64(len(plaintext)))...)
}

// holdOld fetches what the volume holds of earlier epochs, so that what is read
// of it does not show, and takes it off the memory for what is written.
func (o *Output) holdOld(ctx context.Context) error {
	var need int64
	objects := map[*dataObject]bool{}
	var order []*dataObject
	for _, inode := range o.tree.named() {
		for _, e := range o.tree.nodes[inode].extents {
			if !objects[e.obj] {
				objects[e.obj] = true
				order = append(order, e.obj)
				need += e.obj.SealedLen
			}
		}
	}
	free := o.opts.Memory - mostAtEnd - need
	if free < minMemory {
		return fault.Errorf(fault.Refused, "give the runtime more memory, or have the parties agree on a new volume or on publish: as-written",
			"what is in the volume already takes %d MiB of memory, so that its reading does not show, and there are %d for it", need>>20, max(0, o.opts.Memory-mostAtEnd-minMemory)>>20)
	}
	old, err := fetchWhole(ctx, o.store, func(yield func(*object, error) bool) {
		for _, d := range order {
			if !yield(o.object(d)) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	o.store = &overOld{o.store, old}
	o.limit = int(free / pageCost)
	return nil
}

// overOld is a store whose old objects are in memory.
type overOld struct {
	OutputStore
	old *fetched
}

// Local: reads that memory answers are all there are.
func (s *overOld) Local() bool { return true }

func (s *overOld) Get(ctx context.Context, name string, off int64, p []byte) error {
	if _, ok := s.old.objects[name]; ok {
		return s.old.Get(ctx, name, off, p)
	}
	return s.OutputStore.Get(ctx, name, off, p)
}

// String names the store below.
func (s *overOld) String() string { return fmt.Sprint(s.OutputStore) }
