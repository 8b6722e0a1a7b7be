package governance

import (
	"crypto/sha256"

	"golang.org/x/mod/sumdb/tlog"
)

// Frontier is the right edge of a growing RFC 6962 Merkle tree: what is needed
// to add leaves and compute roots, and no more than 64 hashes. Its zero value
// is the empty tree.
type Frontier struct {
	size  int64
	roots []tlog.Hash // of the complete subtrees from left to right, one for each bit of size
}

// Size returns the number of leaves.
func (f *Frontier) Size() int64 { return f.size }

// Add adds an entry as the next leaf.
func (f *Frontier) Add(entry []byte) { f.addLeaf(tlog.RecordHash(entry)) }

func (f *Frontier) addLeaf(h tlog.Hash) {
	for n := f.size; n&1 == 1; n >>= 1 {
		last := len(f.roots) - 1
		h = tlog.NodeHash(f.roots[last], h)
		f.roots = f.roots[:last]
	}
	f.roots = append(f.roots, h)
	f.size++
}

// Root returns the tree's root hash.
func (f *Frontier) Root() tlog.Hash {
	if f.size == 0 {
		return sha256.Sum256(nil)
	}
	h := f.roots[len(f.roots)-1]
	for i := len(f.roots) - 2; i >= 0; i-- {
		h = tlog.NodeHash(f.roots[i], h)
	}
	return h
}

// Clone returns a copy that grows on its own.
func (f *Frontier) Clone() *Frontier {
	return &Frontier{size: f.size, roots: append([]tlog.Hash(nil), f.roots...)}
}
