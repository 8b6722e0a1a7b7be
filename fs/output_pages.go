package fs

import (
	"cmp"
	"maps"
	"slices"
	"sort"
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
	spans  spans
	one    [1]span
	frozen bool // a flush reads it without a lock: it is replaced, not changed
}

// span is a stretch of bytes, from lo to before hi; spans ascend, apart.
type (
	span  struct{ lo, hi int64 }
	spans []span
)

// pages is a pool of page memory, so that what was flushed is used again at
// once instead of growing the heap until the collector comes by. Output.mu
// guards it.
type pages struct {
	free  []*[pageSize]byte
	fresh []page // got at once too
	inUse int
}

func (p *pages) get() *page {
	p.inUse++
	if len(p.fresh) == 0 {
		p.fresh = make([]page, slabPages)
	}
	pg := &p.fresh[0]
	p.fresh = p.fresh[1:]
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

// within returns which spans touch or overlap [lo, hi).
func (l spans) within(lo, hi int64) (first, last int) {
	first = sort.Search(len(l), func(i int) bool { return l[i].hi >= lo })
	for last = first; last < len(l) && l[last].lo <= hi; {
		last++
	}
	return first, last
}

// add makes [lo, hi) part of the spans.
func (l *spans) add(lo, hi int64) {
	first, last := l.within(lo, hi)
	for _, s := range (*l)[first:last] {
		lo, hi = min(lo, s.lo), max(hi, s.hi)
	}
	*l = slices.Replace(*l, first, last, span{lo, hi})
}

// remove takes [lo, hi) out of the spans.
func (l *spans) remove(lo, hi int64) {
	first, last := l.within(lo, hi)
	var kept spans
	for _, s := range (*l)[first:last] {
		if s.lo < lo {
			kept = append(kept, span{s.lo, min(s.hi, lo)})
		}
		if s.hi > hi {
			kept = append(kept, span{max(s.lo, hi), s.hi})
		}
	}
	*l = slices.Replace(*l, first, last, kept...)
}

// bytes returns how many bytes of [lo, hi) are in the spans.
func (l spans) bytes(lo, hi int64) (total int64) {
	first, last := l.within(lo, hi)
	for _, s := range l[first:last] {
		total += max(0, min(hi, s.hi)-max(lo, s.lo))
	}
	return total
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
		pg.spans.add(int64(lo), int64(lo+m))
		p, off = p[m:], off+int64(m)
	}
}

// erase removes the bytes from lo to hi, dirty and sealed: they are a hole.
func (n *node) erase(pool *pages, lo, hi int64) {
	n.extents = n.extents.cut(lo, hi)
	for index, pg := range n.pages {
		start := index * pageSize
		if start >= hi || start+pageSize <= lo {
			continue
		}
		was := pg
		pg = pool.thaw(pg)
		pg.spans.remove(max(lo-start, 0), min(hi-start, pageSize))
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
	n.extents = nil
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
				lo, hi := max(index*pageSize+s.lo, off), min(index*pageSize+s.hi, end)
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
	var runs spans
	for _, e := range n.extents[n.extents.at(off):] {
		runs = append(runs, span{e.off, e.end()})
	}
	for _, index := range n.dirtyIndexes() {
		for _, s := range n.pages[index].spans {
			if hi := index*pageSize + s.hi; hi > off {
				runs = append(runs, span{index*pageSize + s.lo, hi})
			}
		}
	}
	slices.SortFunc(runs, func(x, y span) int { return cmp.Compare(x.lo, y.lo) })
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
