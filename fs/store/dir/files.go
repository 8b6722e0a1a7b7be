package dir

import (
	"container/list"
	"os"
	"sync"
)

// maxOpenFiles bounds the descriptors a store keeps: an eighth of 1,024, the
// usual soft limit of a process, so that several volumes fit beside the rest.
const maxOpenFiles = 128

// files keeps the most recently read objects open. An object is immutable, so
// a file once opened stays right for as long as it is kept.
type files struct {
	open func(name string) (*os.File, error)
	max  int

	mu     sync.Mutex               // guards all below and the fields of file
	byName map[string]*list.Element // of *file
	recent *list.List               // most recently used first
}

type file struct {
	*os.File
	name    string
	users   int
	dropped bool // no longer in the cache: the last user closes it
}

func newFiles(limit int, open func(string) (*os.File, error)) *files {
	return &files{open: open, max: limit, byName: map[string]*list.Element{}, recent: list.New()}
}

// acquire returns the open file of an object; release gives it back. No lock is
// held while it is opened: two first readers may both open it, and the second
// uses the first's.
func (c *files) acquire(name string) (*file, error) {
	if f := c.lookup(name); f != nil {
		return f, nil
	}
	opened, err := c.open(name)
	if err != nil {
		return nil, err
	}
	return c.insert(name, opened), nil
}

func (c *files) lookup(name string) *file {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byName[name]
	if e == nil {
		return nil
	}
	c.recent.MoveToFront(e)
	f := e.Value.(*file)
	f.users++
	return f
}

func (c *files) insert(name string, opened *os.File) *file {
	if f := c.lookup(name); f != nil {
		opened.Close()
		return f
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byName[name]; e != nil {
		c.drop(e)
	}
	f := &file{File: opened, name: name, users: 1}
	c.byName[name] = c.recent.PushFront(f)
	for c.recent.Len() > c.max {
		c.drop(c.recent.Back())
	}
	return f
}

func (c *files) release(f *file) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.users--
	if f.dropped && f.users == 0 {
		f.Close()
	}
}

// forget lets go of one object, so that its space is freed when it is deleted.
func (c *files) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byName[name]; e != nil {
		c.drop(e)
	}
}

func (c *files) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.recent.Len() > 0 {
		c.drop(c.recent.Back())
	}
}

// drop takes e out of the cache. c.mu is held; closing a file opened for
// reading does no I/O.
func (c *files) drop(e *list.Element) {
	f := c.recent.Remove(e).(*file)
	delete(c.byName, f.name)
	f.dropped = true
	if f.users == 0 {
		f.Close()
	}
}
