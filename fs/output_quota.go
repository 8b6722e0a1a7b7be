package fs

import "cloister/fs/format"

// Usage is what StatFS tells.
type Usage struct {
	Inodes     uint64 // in use
	FreeInodes uint64
	Bytes      uint64 // in use by files
	FreeBytes  uint64
}

// freeBytes is told where nothing sets a limit: 2^50, which no program takes
// for too little and no 64-bit sum overflows on.
const freeBytes = 1 << 50

// StatFS returns how much is in use, and how much OutputOptions.MaxSize leaves.
func (o *Output) StatFS() Usage {
	o.mu.Lock()
	defer o.mu.Unlock()
	u := Usage{Inodes: uint64(len(o.tree.nodes)), Bytes: uint64(o.used), FreeBytes: freeBytes}
	u.FreeInodes = format.MaxInodes - u.Inodes
	if o.opts.MaxSize > 0 {
		u.FreeBytes = uint64(max(0, o.opts.MaxSize-o.used))
	}
	if o.opts.AtEnd {
		u.FreeBytes = min(u.FreeBytes, uint64(max(0, o.limit-o.pool.inUse))*pageSize)
	}
	return u
}

// wholePages returns the pages that hold any byte from lo to hi.
func wholePages(lo, hi int64) (int64, int64) {
	return lo / pageSize * pageSize, (hi + pageSize - 1) / pageSize * pageSize
}

// affords reports whether the file may have length bytes from off written. It
// is asked before the first of them is, so a write is there whole or not at
// all.
func (o *Output) affords(n *node, off, length int64) bool {
	if o.opts.MaxSize <= 0 || length == 0 {
		return true
	}
	lo, hi := wholePages(off, off+length)
	more := hi - lo - n.held.bytes(lo, hi)
	return more == 0 || o.used+more <= o.opts.MaxSize
}

// hold has the pages of [lo, hi) count as the file's, with bytes in them or to
// come.
func (o *Output) hold(n *node, lo, hi int64) {
	lo, hi = wholePages(lo, hi)
	if more := hi - lo - n.held.bytes(lo, hi); more > 0 {
		o.used, n.charged = o.used+more, n.charged+more
		n.held.add(lo, hi)
	}
}

// yield takes back the pages that lie in [lo, hi) whole, or to the file's end.
func (o *Output) yield(n *node, lo, hi int64) {
	_, lo = wholePages(0, lo)
	if hi < n.size() {
		hi = hi / pageSize * pageSize
	} else {
		_, hi = wholePages(0, hi)
	}
	if less := n.held.bytes(lo, hi); less > 0 {
		o.used, n.charged = o.used-less, n.charged-less
		n.held.remove(lo, hi)
	}
}
