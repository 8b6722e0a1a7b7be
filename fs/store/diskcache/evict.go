package diskcache

import (
	"cmp"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"
)

// budget is what may be written until the directory has been looked at again.
//
// Only the directory knows what is in it: other processes write there too. So a
// process writes a step at most, then walks the directory and, where it holds
// more than the size less two steps, removes what was used longest ago. One
// process stays within the size, another one adds a step at most; a range that
// comes while a walk is not done with, and does not fit, is not kept, and no
// read waits for a walk.
type budget struct {
	size, step int64

	mu      sync.Mutex // guards all below
	left    int64      // may be written
	written int64      // since the last walk began
	walking bool
	next    time.Time // no walk before: the last one did not help
}

// minStep lets several ranges of the largest size be kept between two walks.
const minStep = 4 * slabSize

// newBudget grants a step before the first walk has ended: the last process left
// room for it.
func newBudget(size int64) *budget {
	step := max(size/16, minStep)
	return &budget{size: size, step: step, left: step}
}

// take takes a range from the budget if it fits, and has the directory walked
// when half a step is left.
func (s *Store) take(n int64) bool {
	n += 2 * headerSize // a slab's, and a directory's block
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	fits := n <= b.left
	if b.left-n < b.step/2 && !b.walking && time.Now().After(b.next) {
		b.walking, b.written = true, 0
		s.walks.Go(s.walkNow)
	}
	if fits {
		b.left -= n
		b.written += n
	}
	return fits
}

// walk starts the first walk.
func (s *Store) walk() {
	s.budget.walking = true
	s.walks.Go(s.walkNow)
}

func (s *Store) walkNow() {
	total := s.shrink()
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.walking = false
	b.left = min(b.step, b.size-b.step-total) - b.written
	b.next = time.Time{}
	if b.left < b.step/2 {
		b.next = time.Now().Add(s.place.retry)
	}
}

// shrink removes what was used longest ago until the directory has room for two
// steps, and returns what it holds then, in bytes.
func (s *Store) shrink() (total int64) {
	root := s.place.get()
	if root == nil {
		return 0
	}
	for {
		total, oldest := s.survey(root)
		freed := s.remove(root, oldest, total-(s.budget.size-2*s.budget.step))
		total -= freed
		if freed == 0 || total <= s.budget.size-2*s.budget.step || s.ending.Load() {
			return total
		}
	}
}

// slabFile is a slab file as a walk finds it.
type slabFile struct {
	path string
	used time.Time
	size int64
}

// maxOldest bounds what a walk remembers; where more must go, it is followed by
// another.
const maxOldest = 4096

// survey walks the directory, and returns the bytes it takes and the slab files
// that were used longest ago, the oldest first.
func (s *Store) survey(root *os.Root) (total int64, oldest []slabFile) {
	older := func(a, b slabFile) int { return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.path, b.path)) }
	s.each(root, ".", 0, func(path string, depth int, info fs.FileInfo) {
		total += allocated(info)
		if depth < 2 || !info.Mode().IsRegular() {
			return
		}
		oldest = append(oldest, slabFile{path, info.ModTime(), allocated(info)})
		if len(oldest) == 2*maxOldest {
			slices.SortFunc(oldest, older)
			oldest = oldest[:maxOldest]
		}
	})
	slices.SortFunc(oldest, older)
	return total, oldest[:min(len(oldest), maxOldest)]
}

// each calls visit for everything down to the slab files: volumes, objects,
// slabs. Of a directory it holds a thousand entries at a time.
func (s *Store) each(root *os.Root, dir string, depth int, visit func(path string, depth int, info fs.FileInfo)) {
	d, err := root.OpenFile(dir, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return
	}
	defer discard(d)
	for err == nil && !s.ending.Load() {
		var entries []fs.DirEntry
		entries, err = d.ReadDir(1000)
		for _, e := range entries {
			path := dir + "/" + e.Name()
			info, err := root.Lstat(path)
			if err != nil {
				continue // gone meanwhile
			}
			visit(path, depth, info)
			if info.IsDir() && depth < 2 {
				s.each(root, path, depth+1, visit)
			}
		}
	}
}

// remove removes files until n bytes are free, and directories that became
// empty. It returns the bytes that it freed.
func (s *Store) remove(root *os.Root, files []slabFile, n int64) (freed int64) {
	for _, f := range files {
		if freed >= n || s.ending.Load() {
			break
		}
		if root.Remove(f.path) != nil {
			continue
		}
		freed += f.size
		for _, dir := range parents(f.path) {
			if root.Remove(dir) != nil {
				break // not empty
			}
		}
	}
	return freed
}
