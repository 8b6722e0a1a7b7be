package dir

import (
	"context"
	"errors"
	"iter"
	"os"
	"slices"
	"strings"

	"cloister/fs/store/object"
)

// List yields the objects whose names begin with prefix, sorted by name. What
// could not be an object's name is passed over; a symbolic link or a device
// under such a name is an error. It reads one directory at a time, and an
// object put or deleted meanwhile may be in the list or not.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[object.Entry, error] {
	return func(yield func(object.Entry, error) bool) {
		w := walk{s: s, ctx: ctx, prefix: prefix, yield: yield}
		if err := w.directory(""); err != nil && !errors.Is(err, errStop) {
			if ctx.Err() == nil {
				err = s.explain("listing", "", err)
			}
			yield(object.Entry{}, err)
		}
	}
}

var errStop = errors.New("the consumer has enough")

type walk struct {
	s      *Store
	ctx    context.Context
	prefix string
	yield  func(object.Entry, error) bool
}

// directory walks one directory; base is "" or its name with a slash at the end.
func (w *walk) directory(base string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	entries, err := w.s.readDir("./" + base)
	if err != nil {
		if base != "" && errors.Is(err, os.ErrNotExist) {
			return nil // removed while we walk
		}
		return err
	}
	for _, e := range inNameOrder(entries) {
		if err := w.entry(base+e.Name(), e); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) entry(name string, e os.DirEntry) error {
	if !object.Valid(name) {
		return nil
	}
	if e.IsDir() {
		below := name + "/"
		if strings.HasPrefix(below, w.prefix) || strings.HasPrefix(w.prefix, below) {
			return w.directory(below)
		}
		return nil
	}
	if e.Type()&os.ModeSymlink != 0 && strings.HasPrefix(w.prefix, name+"/") {
		return &kindError{name, e.Type()} // not an empty directory
	}
	if !strings.HasPrefix(name, w.prefix) {
		return nil
	}
	info, err := e.Info()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &kindError{name, info.Mode()}
	}
	if !w.yield(object.Entry{Name: name, Size: info.Size()}, nil) {
		return errStop
	}
	return nil
}

// inNameOrder sorts a directory so that a walk meets whole names in byte order:
// a directory counts as its name with the slash, because "a-b" < "a/b" < "a0".
func inNameOrder(entries []os.DirEntry) []os.DirEntry {
	key := func(e os.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return strings.Compare(key(a), key(b)) })
	return entries
}

func (s *Store) readDir(name string) ([]os.DirEntry, error) {
	d, err := s.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadDir(-1)
}
