package fs

import (
	"context"
	"sync"
	"sync/atomic"

	"cloister/fs/format"
)

// File is an open file: a place for what is known of how it is being read. It
// is safe for concurrent use.
type File struct {
	v     *Volume
	inode uint32
	size  int64
	line  *line // nil over a local store
	close context.CancelFunc
}

// Open opens a file for reading. inode must be that of a file.
func (v *Volume) Open(inode uint32) *File {
	a, _ := v.manifest.Attr(inode)
	f := &File{v: v, inode: inode, size: int64(a.Size), close: func() {}}
	if v.cache != nil {
		f.line = &line{}
		f.line.ctx, f.close = context.WithCancel(v.ctx)
	}
	return f
}

// Close ends what is being read ahead for this file and nobody else.
func (f *File) Close() { f.close() }

// packed is the size below which a file shares objects with its neighbours
// (FORMAT.md §4), so that reading small files one after the other is reading
// an object from front to back.
const packed = 1 << 20

// noteRead tells the read-ahead of a read, and returns the size of the ranges
// to fetch for it.
func (f *File) noteRead(off, n int64) (size int64) {
	switch {
	case f.v.cache == nil:
		return 0
	case f.size < packed:
		return f.v.notePacked(f.inode, off, n)
	}
	size, ahead := f.line.note(off, n, f.v.maxRange, f.v.maxAhead, f.v.pace.ahead())
	f.v.readAhead(f.line, f.inode, ahead, size)
	return size
}

// readAhead begins to fetch the ranges that hold a stretch of a file.
func (v *Volume) readAhead(l *line, inode uint32, s stretch, size int64) {
	if s.begin >= s.end {
		return
	}
	for e := range v.manifest.Extents(inode, uint64(s.begin)) {
		begin := max(int64(e.FileOff), s.begin)
		end := min(int64(e.End()), s.end)
		if begin >= end {
			return
		}
		o, err := v.object(e.Object)
		if err != nil {
			return // the read that comes to it will say so
		}
		inObject := int64(e.ObjectOff) - int64(e.FileOff)
		if reached := v.prefetch(l.context(), o, begin+inObject, end+inObject, size) - inObject; reached < end {
			l.stay(reached)
			return
		}
	}
}

// prefetch begins to fetch the ranges that hold an object's plaintext from
// begin to end, and returns how far the cache has room for them.
func (v *Volume) prefetch(ctx context.Context, o *object, begin, end, size int64) (reached int64) {
	suite, sealedLen := o.opener.Suite(), o.opener.SealedLen()
	first, _ := suite.SealedRange(suite.SegmentAt(begin), sealedLen)
	last, _ := suite.SealedRange(suite.SegmentAt(end-1), sealedLen)
	for off := first; off <= last; off = off&^(size-1) + size {
		if !v.cache.Prefetch(ctx, o.index, off, size, sealedLen) {
			return max(begin, suite.PlainStart(off/suite.SegmentSize()))
		}
	}
	return end
}

// packs are the lines along which packed objects are read, each in the slot of
// its object's index: neighbours are read by different opens of different
// files, so no file can know of it.
type packs [64]atomic.Pointer[packLine]

type packLine struct {
	object uint32
	line
}

// notePacked is noteRead for a file that shares its object.
func (v *Volume) notePacked(inode uint32, off, n int64) (size int64) {
	var extent format.Extent
	for e := range v.manifest.Extents(inode, uint64(off)) {
		extent = e
		break
	}
	if extent.Length == 0 {
		return minRange // a hole
	}
	slot := &v.packs[extent.Object%uint32(len(v.packs))]
	p := slot.Load()
	if p == nil || p.object != extent.Object {
		fresh := &packLine{object: extent.Object}
		fresh.ctx = v.ctx
		slot.Store(fresh)
		p.end()
		p = fresh
	}
	o, err := v.object(extent.Object)
	if err != nil {
		return minRange
	}
	at := int64(extent.ObjectOff) + max(0, off-int64(extent.FileOff))
	size, ahead := p.note(at, n, v.maxRange, v.maxAhead, v.pace.ahead())
	if ahead.end = min(ahead.end, o.opener.PlainLen()); ahead.begin < ahead.end {
		p.stay(v.prefetch(p.context(), o, ahead.begin, ahead.end, size))
	}
	return size
}

// end gives up what is being read ahead on a line that is forgotten.
func (p *packLine) end() {
	if p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.seek(0)
	}
}

// stretch is a part of a file or object, in bytes of plaintext.
type stretch struct{ begin, end int64 }

// line recognises reading from front to back, in bytes of a file or of a packed
// object's plaintext.
type line struct {
	mu       sync.Mutex // guards all below
	ctx      context.Context
	cancel   context.CancelFunc // of what is being read ahead; nil before there is any
	aheadCtx context.Context    // its context
	next     int64              // end of the furthest read
	run      int64              // bytes read in sequence
	ahead    int64              // what lies before here is being fetched
}

// near is how far off the line a read may be and still belong to it: the
// kernel's own read-ahead sends several requests of 1 MiB at once, which
// arrive in any order.
const near = 4 << 20

// note records a read of n bytes at off. It returns the size of the range to
// fetch for it and the stretch to begin reading ahead, in ways ranges at most.
func (l *line) note(off, n, maxSize, maxAhead, ways int64) (size int64, ahead stretch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if off < l.next-near || off > l.next+min(near, l.run) {
		l.seek(off)
	}
	l.run += n
	l.next = max(l.next, off+n)
	if l.run == n { // the first after a seek says nothing of the next
		return powerOfTwo(min(max(n, minRange), maxSize)), ahead
	}
	// What has been read in sequence bounds what is fetched in vain when it
	// ends. It is fetched in as many ranges as are worth having on their way,
	// which should soon be large: see maxRange.
	reach := min(8*l.run, maxAhead, ways*maxSize)
	size = powerOfTwo(min(max(reach/ways, n, minRange), maxSize))
	if l.run < 4*minRange {
		return size, ahead
	}
	begin := max(l.next, l.ahead)
	end := l.next + reach
	// Whole ranges at a time: half a range more is not worth a request.
	if end-begin < size {
		return size, ahead
	}
	l.ahead = end
	return size, stretch{begin, end}
}

// stay says that only what lies before here is being fetched: the next read
// tries again.
func (l *line) stay(reached int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ahead = min(l.ahead, reached)
}

// seek forgets the line and gives up what was being read ahead on it. mu is
// held.
func (l *line) seek(off int64) {
	if l.cancel != nil {
		l.cancel()
		l.cancel = nil
	}
	l.run, l.ahead, l.next = 0, 0, off
}

// context returns the context of what is read ahead on the line.
func (l *line) context() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cancel == nil {
		l.aheadCtx, l.cancel = context.WithCancel(l.ctx)
	}
	return l.aheadCtx
}
