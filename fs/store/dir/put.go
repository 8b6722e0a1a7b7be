package dir

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path"
	"strings"
	"time"

	"cloister/fs/store/object"
)

const (
	// tempPrefix begins the name of an object that is still being written. No
	// object's name begins with a dot, so no listing shows one.
	tempPrefix = ".cloister-put-"

	// staleAfter is how long a temporary file lies untouched before an open for
	// writing takes it for a killed writer's. Removing one is safe at any age:
	// objects are not named by it, and the writer that would still be alive
	// finds its link refused and fails, with nothing half-visible. A day keeps
	// even that from happening to a machine that slept overnight.
	staleAfter = 24 * time.Hour

	// writePiece is how much Put writes between two looks at its context.
	writePiece = 8 << 20
)

// Put makes the object, whole or not at all, and returns when it is durable. A
// name that is taken is an error wrapping object.ErrExist.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if err := s.check(ctx, name); err != nil {
		return err
	}
	if err := s.put(ctx, name, data); err != nil {
		return s.explain("writing", name, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, name string, data []byte) error {
	// Nothing is written for a name already taken; the link below decides.
	if _, err := s.lstat(name); !errors.Is(err, os.ErrNotExist) {
		if err == nil {
			err = object.ErrExist
		}
		return err
	}
	if err := s.makeParents(path.Dir(name)); err != nil {
		return err
	}
	temp := tempPrefix + rand.Text()
	defer s.root.Remove(temp) // gone already where it was renamed
	if err := s.writeTemp(ctx, temp, data); err != nil {
		return err
	}
	if err := s.publish(temp, name); err != nil {
		return err
	}
	return s.syncDir(path.Dir(name))
}

func (s *Store) writeTemp(ctx context.Context, temp string, data []byte) error {
	f, err := s.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = writePieces(ctx, f, data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func writePieces(ctx context.Context, f *os.File, data []byte) error {
	for len(data) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.Write(data[:min(len(data), writePiece)])
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return ctx.Err()
}

// publish gives the finished file its name, only if nobody has it: a hard link
// refuses a name that is taken, on every system, where a rename would replace.
func (s *Store) publish(temp, name string) error {
	err := s.root.Link(temp, name)
	if err != nil && noHardLinks(err) {
		return renameNew(s.root, temp, name)
	}
	return err
}

// makeParents makes the directories above an object and syncs each one's entry
// in its parent, so that a durable object is not lost with its directory.
func (s *Store) makeParents(dir string) error {
	if dir == "." {
		return nil
	}
	if _, err := s.root.Lstat(dir); err == nil {
		return nil
	}
	if err := s.makeParents(path.Dir(dir)); err != nil {
		return err
	}
	if err := s.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return s.syncDir(path.Dir(dir))
}

func (s *Store) removeStaleTemps() error {
	entries, err := s.readDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < staleAfter {
			continue // gone, or perhaps still being written
		}
		if err := s.root.Remove(e.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
