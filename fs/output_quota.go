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
	return u
}

// charge returns how many bytes a file would count for with so many more dirty
// pages and that size: in whole pages, without holes. A dirty page over sealed
// bytes of a file with holes counts twice until it is sealed.
func (n *node) charge(size int64, morePages int) int64 {
	whole := (size + pageSize - 1) / pageSize * pageSize
	return min(n.sealed+int64(len(n.pages)+morePages)*pageSize, whole)
}

// account has Output.used follow a file that changed.
func (o *Output) account(n *node) {
	now := n.charge(n.size(), 0)
	o.used += now - n.charged
	n.charged = now
}

// affords reports whether the file may have length bytes from off written. It
// is asked before the first of them is, so a write is there whole or not at
// all.
func (o *Output) affords(n *node, off, length int64) bool {
	if o.opts.MaxSize <= 0 || length == 0 {
		return true
	}
	first, last := off/pageSize, (off+length-1)/pageSize
	more := int(last - first + 1)
	if more <= len(n.pages) { // else it costs more to count than it may save
		for index := first; index <= last; index++ {
			if n.pages[index] != nil {
				more--
			}
		}
	}
	then := n.charge(max(n.size(), off+length), more)
	return then <= n.charged || o.used-n.charged+then <= o.opts.MaxSize
}

// setExtents replaces the list.
func (n *node) setExtents(list extents) {
	n.extents, n.sealed = list, list.bytes()
}
