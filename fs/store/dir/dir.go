// Package dir keeps a volume's objects as files below one directory.
//
// Life of a request: Get checks the name, takes the object's open file from a
// bounded cache or opens it below the directory's root without following a
// symbolic link, and reads the range with pread. Put writes a temporary file,
// syncs it, links it to its name, which fails if the name is taken, and syncs
// the directory; when Put has returned the object survives a crash, and before
// that nobody sees any of it.
//
// The store makes directories with mode 0700 and files with 0600: the bytes are
// sealed, but whom to show even their sizes and number to is for the owner to
// say, with chmod. The modes of what is already there are left alone.
package dir

import (
	"context"
	"errors"
	"io"
	"os"
	"path"

	"cloister/fs/store/object"
	"cloister/internal/fault"
)

// Store is a volume in a directory. It is safe for concurrent use.
type Store struct {
	place string // as the user named it, for messages
	root  *os.Root
	files *files
}

// Open opens the volume directory at path. With create it is opened for
// writing: made, with its parents, where absent, and rid of what writers that
// were killed left behind.
func Open(path string, create bool) (*Store, error) {
	s := &Store{place: path}
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return nil, fault.Errorf(fault.Usage, "name a directory", "opening volume %s: it is not a directory", path)
	}
	if create {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, s.explain("making", "", err)
		}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, s.explain("opening", "", err)
	}
	s.root = root
	s.files = newFiles(maxOpenFiles, s.openObject)
	if create {
		if err := s.removeStaleTemps(); err != nil {
			root.Close()
			return nil, s.explain("clearing temporary files of", "", err)
		}
	}
	return s, nil
}

// Close closes the files that the store keeps open.
func (s *Store) Close() error {
	s.files.clear()
	return s.root.Close()
}

// String returns the directory as it was named.
func (s *Store) String() string { return s.place }

// Get fills p with the object's bytes from offset off. An object that ends
// before is an error wrapping io.ErrUnexpectedEOF.
func (s *Store) Get(ctx context.Context, name string, off int64, p []byte) error {
	if err := s.check(ctx, name); err != nil {
		return err
	}
	if off < 0 {
		return fault.Errorf(fault.Internal, "", "reading object %s of %s: offset %d is negative", name, s, off)
	}
	if err := s.read(name, off, p); err != nil {
		return s.explain("reading", name, err)
	}
	return nil
}

func (s *Store) read(name string, off int64, p []byte) error {
	f, err := s.files.acquire(name)
	if err != nil {
		return err
	}
	defer s.files.release(f)
	n, err := f.ReadAt(p, off)
	if n == len(p) && len(p) > 0 {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return checkEnd(f.File, off, n, len(p))
	}
	return err
}

// checkEnd tells a read that asked for nothing from one that met the end.
func checkEnd(f *os.File, off int64, got, want int) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if got == want && off <= info.Size() {
		return nil
	}
	return &shortError{size: info.Size(), off: off, want: want}
}

// Size returns the object's length in bytes.
func (s *Store) Size(ctx context.Context, name string) (int64, error) {
	if err := s.check(ctx, name); err != nil {
		return 0, err
	}
	info, err := s.lstat(name)
	if err != nil {
		return 0, s.explain("looking for", name, err)
	}
	return info.Size(), nil
}

// Delete removes the object. One that is not there is not an error.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := s.check(ctx, name); err != nil {
		return err
	}
	s.files.forget(name)
	err := s.root.Remove(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = s.syncDir(path.Dir(name))
	}
	if err != nil {
		return s.explain("deleting", name, err)
	}
	return nil
}

func (s *Store) check(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return object.CheckName(name)
}

// lstat returns what is at name, refusing symbolic links on the way and
// anything that is not a regular file at its end. os.Root alone follows links
// that stay inside the directory. Whoever can swap a link in between this and
// the open wins nothing: he could have put the other file there.
func (s *Store) lstat(name string) (os.FileInfo, error) {
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		info, err := s.root.Lstat(name[:i])
		if err != nil {
			return nil, err
		}
		if info.Mode()&os.ModeSymlink != 0 {
			return nil, &kindError{name[:i], info.Mode()}
		}
	}
	info, err := s.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &kindError{name, info.Mode()}
	}
	return info, nil
}

func (s *Store) openObject(name string) (*os.File, error) {
	before, err := s.lstat(name)
	if err != nil {
		return nil, err
	}
	f, err := s.root.OpenFile(name, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = &kindError{name, after.Mode()}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
