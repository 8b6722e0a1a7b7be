//go:build linux

package mount

import (
	"sync"

	"cloister/fs/format"
)

// statGuess tells a walk that asks for the attributes of what it lists (find
// -size, ls -l, tar) from one that does not (find, ls). With the attributes
// comes an inode for every entry in the kernel, which is four times the work of
// a bare listing (5.6 s against 1.2 s for a million files); without them, one
// that is asked for costs a request of its own, which is five times the work
// (35 s against 7.3 s). The kernel's own guess, READDIRPLUS_AUTO, gives them for
// the beginning of each directory only, and find has read a whole directory
// before it asks for the first.
//
// So one entry of each reply is left without: when it is looked up, the walk is
// one of those that ask.
type statGuess struct {
	mu     sync.Mutex // guards all below
	doubts int        // directories in a row of which nothing was asked
	left   bool       // an entry was left without, since the last directory began
	asked  bool       // and one was asked for
}

// maxDoubts is after how many directories of which nothing was asked no
// attributes are given: a walk in depth begins the next directory before it is
// through with the last, and seems not to ask.
const maxDoubts = 4

// batch says for one reply which entries get attributes.
type batch struct {
	guess *statGuess
	give  bool
	first bool // none has been left without yet
}

// listing is told of a request for entries, and whether it begins a directory.
func (g *statGuess) listing(begins bool) *batch {
	g.mu.Lock()
	defer g.mu.Unlock()
	if begins && g.left {
		g.doubts++
		if g.asked {
			g.doubts = 0
		}
		g.left, g.asked = false, false
	}
	return &batch{guess: g, give: g.doubts < maxDoubts, first: true}
}

// gives reports whether an entry gets attributes. Directories do, since a walk
// enters them; of the rest the first is left without.
func (b *batch) gives(mode uint32) bool {
	if mode&format.ModeType == format.ModeDir {
		return true
	}
	if b.first {
		b.first = false
		b.guess.leave()
		return false
	}
	return b.give
}

func (g *statGuess) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = true
}

// lookedUp is told that an entry was asked for.
func (g *statGuess) lookedUp(mode uint32) {
	if mode&format.ModeType == format.ModeDir {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left {
		g.asked, g.doubts = true, 0
	}
}
