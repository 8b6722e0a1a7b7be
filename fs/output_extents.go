package fs

import (
	"sort"
	"sync/atomic"

	"cloister/fs/format"
)

// dataObject is a data object that extents point to. It is immutable once an
// extent that names it is in a node; index and journaled belong to the flusher.
type dataObject struct {
	format.Object
	name      string // in the store
	index     uint32 // in the journal's object table, once journaled
	journaled bool
	reading   atomic.Pointer[object]
}

// extent is a format.Extent that names its object by pointer: indexes are
// given out by the journal and again by the manifest.
type extent struct {
	off    int64 // in the file
	length uint32
	objOff uint32 // in the object's plaintext
	obj    *dataObject
}

func (e extent) end() int64 { return e.off + int64(e.length) }

// from returns the part of e at or behind off, which lies inside e.
func (e extent) from(off int64) extent {
	skip := uint32(off - e.off)
	return extent{off, e.length - skip, e.objOff + skip, e.obj}
}

// to returns the part of e before off, which lies inside e.
func (e extent) to(off int64) extent {
	e.length = uint32(off - e.off)
	return e
}

// extents is ascending and without overlaps. A published list is immutable: a
// flush works on the one it found while the file goes on to another.
type extents []extent

// at returns the index of the first extent that ends behind off.
func (l extents) at(off int64) int {
	return sort.Search(len(l), func(i int) bool { return l[i].end() > off })
}

// cut returns the list without the bytes from lo to hi.
func (l extents) cut(lo, hi int64) extents {
	first := l.at(lo)
	if first == len(l) || l[first].off >= hi {
		return l
	}
	out := append(make(extents, 0, len(l)+1), l[:first]...)
	for _, e := range l[first:] {
		if e.off >= hi || e.end() <= lo {
			out = append(out, e)
			continue
		}
		if e.off < lo {
			out = append(out, e.to(lo))
		}
		if e.end() > hi {
			out = append(out, e.from(hi))
		}
	}
	return out
}

// overlay returns the list with add, which is ascending, over it.
func (l extents) overlay(add extents) extents {
	if len(add) == 0 {
		return l
	}
	first := l.at(add[0].off)
	out := append(make(extents, 0, len(l)+len(add)+1), l[:first]...)
	below := l[first:]
	var rest extent // of below[0], where it reaches beyond what was added
	next := func() (extent, bool) {
		if rest.length > 0 {
			return rest, true
		}
		if len(below) == 0 {
			return extent{}, false
		}
		return below[0], true
	}
	drop := func() {
		if rest.length > 0 {
			rest = extent{}
			return
		}
		below = below[1:]
	}
	for _, a := range add {
		for e, ok := next(); ok && e.off < a.end(); e, ok = next() {
			drop()
			if e.off < a.off {
				out = out.join(e.to(min(e.end(), a.off)))
			}
			if e.end() > a.end() {
				rest = e.from(a.end())
				break
			}
		}
		out = out.join(a)
	}
	for e, ok := next(); ok; e, ok = next() {
		out = out.join(e)
		drop()
	}
	return out
}

// join appends e, to the last extent where it goes on in the same object.
func (l extents) join(e extent) extents {
	if n := len(l) - 1; n >= 0 {
		last := &l[n]
		if last.obj == e.obj && last.end() == e.off && last.objOff+last.length == e.objOff {
			last.length += e.length
			return l
		}
	}
	return append(l, e)
}
