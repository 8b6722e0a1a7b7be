package diskcache

import (
	"os"
	"path/filepath"
	"sync"
	"time"
)

// folder is where in the directory everything is, so that whoever names his home
// by mistake loses nothing of it. It changes with the layout.
const folder = "cloister-cache-1"

// retryAfter is how long a directory that could not be written to is left alone:
// a full disk costs an attempt a minute.
const retryAfter = time.Minute

// place is the directory, as far as it can be used.
type place struct {
	dir   string
	retry time.Duration

	mu     sync.Mutex // guards all below
	root   *os.Root   // of folder; nil if it could not be opened yet
	paused time.Time  // not written to before; zero if nothing is the matter
	said   bool       // trouble has been logged
}

// open opens the directory, made where absent, whatever was open before. Every
// directory on the way is the operator's word but the last, folder, which
// whoever may write there could have made a link: it must not lead outside.
func (p *place) open() error {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	outer, err := os.OpenRoot(p.dir)
	if err != nil {
		return err
	}
	defer discard(outer)
	if err := outer.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	root, err := outer.OpenRoot(folder)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.root != nil {
		discard(p.root) // reads under way end first
	}
	p.root = root
	return nil
}

// get returns where to read, or nil.
func (p *place) get() *os.Root {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.root
}

// writable returns where to write, or nil while the directory is left alone;
// after that it is opened anew.
func (p *place) writable() (*os.Root, error) {
	p.mu.Lock()
	root, paused := p.root, p.paused
	if !paused.IsZero() && time.Now().After(paused) {
		p.paused = time.Time{}
	}
	p.mu.Unlock()
	switch {
	case paused.IsZero():
		return root, nil
	case time.Now().Before(paused):
		return nil, nil
	}
	err := p.open()
	return p.get(), err
}

// pause has the directory left alone for a while, and reports whether it is the
// first time.
func (p *place) pause() (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = time.Now().Add(p.retry)
	first, p.said = !p.said, true
	return first
}

func (p *place) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.root != nil {
		discard(p.root)
	}
}

// parents returns the directories above a file, below the root, the nearest
// first.
func parents(path string) (dirs []string) {
	for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
		dirs = append(dirs, dir)
	}
	return dirs
}
