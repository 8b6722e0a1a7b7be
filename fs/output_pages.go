package fs

import (
	"maps"
	"slices"
)

const (
	// pageSize is the unit dirty bytes are kept in: the kernel's page, so that
	// a random 4 KiB write costs 4 KiB of the budget.
	pageSize = 4096
	// pageCost is what a dirty page counts against the budget: with the map
	// entry and the page's own fields, measured at about 150 bytes.
	pageCost = pageSize + 160
	// slabPages is how many pages are got from the system at once: 256 KiB, so
	// that a small volume costs little and a page no call of its own.
	slabPages = 64
)

// page holds dirty bytes of one page of a file: those of its spans. What lies
// between them is the extents' to say, so a small write never reads.
type page struct {
	data   *[pageSize]byte
	spans  []span // ascending, apart
	one    [1]span
	frozen bool // a flush reads it without a lock: it is replaced, not changed
}

type span struct{ lo, hi int }

// pages is a pool of page memory, so that what was flushed is used again at
// once instead of growing the heap until the collector comes by. Output.mu
// guards it.
type pages struct {
	free  []*[pageSize]byte
	inUse int
}

func (p *pages) get() *page {
	p.inUse++
	pg := &page{}
	pg.spans = pg.one[:0]
	if len(p.free) == 0 {
		slab := new([slabPages][pageSize]byte)
		for i := range slab {
			p.free = append(p.free, &slab[i])
		}
	}
	last := len(p.free) - 1
	pg.data, p.free = p.free[last], p.free[:last]
	return pg
}

func (p *pages) put(pg *page) {
	p.inUse--
	p.free = append(p.free, pg.data)
	pg.data = nil
}

// destroy overwrites the memory that is not in use.
func (p *pages) destroy() {
	for _, d := range p.free {
		clear(d[:])
	}
	p.free = nil
}

// thaw returns the page that may be changed in the place of a frozen one; the
// flush that froze it gives its memory back.
func (p *pages) thaw(pg *page) *page {
	if !pg.frozen {
		return pg
	}
	copied := p.get()
	*copied.data = *pg.data
	copied.spans = append(copied.spans, pg.spans...)
	return copied
}

// add makes [lo, hi) part of the spans.
func (pg *page) add(lo, hi int) {
	if len(pg.spans) == 0 {
		pg.spans = append(pg.spans, span{lo, hi})
		return
	}
	first := 0
	for first < len(pg.spans) && pg.spans[first].hi < lo {
		first++
	}
	last := first
	for last < len(pg.spans) && pg.spans[last].lo <= hi {
		lo, hi = min(lo, pg.spans[last].lo), max(hi, pg.spans[last].hi)
		last++
	}
	pg.spans = slices.Replace(pg.spans, first, last, span{lo, hi})
}

// remove takes [lo, hi) out of the spans.
func (pg *page) remove(lo, hi int) {
	var kept []span
	for _, s := range pg.spans {
		if s.lo < lo {
			kept = append(kept, span{s.lo, min(s.hi, lo)})
		}
		if s.hi > hi {
			kept = append(kept, span{max(s.lo, hi), s.hi})
		}
	}
	pg.spans = kept
}

// store puts bytes of a file into its dirty pages.
func (n *node) store(pool *pages, off int64, p []byte) {
	if n.pages == nil {
		n.pages = map[int64]*page{}
	}
	for len(p) > 0 {
		index, lo := off/pageSize, int(off%pageSize)
		pg := n.pages[index]
		if pg == nil {
			pg = pool.get()
			n.pages[index] = pg
		} else if pg.frozen {
			pg = pool.thaw(pg)
			n.pages[index] = pg
		}
		m := copy(pg.data[lo:], p)
		pg.add(lo, lo+m)
		p, off = p[m:], off+int64(m)
	}
}

// erase removes the bytes from lo to hi, dirty and sealed: they are a hole.
func (n *node) erase(pool *pages, lo, hi int64) {
	n.setExtents(n.extents.cut(lo, hi))
	for index, pg := range n.pages {
		start := index * pageSize
		if start >= hi || start+pageSize <= lo {
			continue
		}
		was := pg
		pg = pool.thaw(pg)
		pg.remove(int(max(lo-start, 0)), int(min(hi-start, pageSize)))
		if len(pg.spans) > 0 {
			n.pages[index] = pg
			continue
		}
		delete(n.pages, index)
		if pg != was || !was.frozen {
			pool.put(pg)
		}
	}
}

// drop gives all dirty pages back: the file is gone.
func (n *node) drop(pool *pages) {
	for _, pg := range n.pages {
		if !pg.frozen {
			pool.put(pg)
		}
	}
	n.pages = nil
	n.setExtents(nil)
}

// sealedRead is a part of a read that an object answers.
type sealedRead struct {
	obj *dataObject
	off int64 // in the object's plaintext
	dst []byte
}

// load fills dst with the file's bytes from off, as far as they are dirty or a
// hole, and returns what is left to read from objects, into parts of dst that
// nothing else is written to.
func (n *node) load(dst []byte, off int64) []sealedRead {
	var reads []sealedRead
	end := off + int64(len(dst))
	clean := func(lo, hi int64) {
		if lo < hi {
			reads = n.loadSealed(reads, dst[lo-off:hi-off], lo)
		}
	}
	at := off
	if len(n.pages) > 0 {
		for index := off / pageSize; index*pageSize < end; index++ {
			pg := n.pages[index]
			if pg == nil {
				continue
			}
			for _, s := range pg.spans {
				lo, hi := max(index*pageSize+int64(s.lo), off), min(index*pageSize+int64(s.hi), end)
				if lo >= hi {
					continue
				}
				clean(at, lo)
				copy(dst[lo-off:hi-off], pg.data[lo-index*pageSize:])
				at = hi
			}
		}
	}
	clean(at, end)
	return reads
}

func (n *node) loadSealed(reads []sealedRead, dst []byte, off int64) []sealedRead {
	clear(dst)
	end := off + int64(len(dst))
	for _, e := range n.extents[n.extents.at(off):] {
		if e.off >= end {
			break
		}
		lo, hi := max(e.off, off), min(e.end(), end)
		reads = append(reads, sealedRead{e.obj, int64(e.objOff) + lo - e.off, dst[lo-off : hi-off]})
	}
	return reads
}

// dirtyIndexes returns the numbers of the dirty pages in order.
func (n *node) dirtyIndexes() []int64 { return slices.Sorted(maps.Keys(n.pages)) }

// data returns the next byte at or behind off that is data, not hole, and the
// next that is hole (the end of the file at the latest).
func (n *node) data(off int64) (data, hole int64) {
	var runs []span64
	for _, e := range n.extents[n.extents.at(off):] {
		runs = append(runs, span64{e.off, e.end()})
	}
	for _, index := range n.dirtyIndexes() {
		for _, s := range n.pages[index].spans {
			if hi := index*pageSize + int64(s.hi); hi > off {
				runs = append(runs, span64{index*pageSize + int64(s.lo), hi})
			}
		}
	}
	slices.SortFunc(runs, func(x, y span64) int { return int(min(1, max(-1, x.lo-y.lo))) })
	data, hole = n.size(), off
	for _, r := range runs {
		if r.hi > off && r.lo < data {
			data = max(r.lo, off)
		}
		if r.lo <= hole {
			hole = max(hole, r.hi)
		}
	}
	return data, min(hole, n.size())
}

type span64 struct{ lo, hi int64 }
