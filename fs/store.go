package fs

import (
	"context"
	"iter"
)

// Store is where a volume's objects are. Errors find io/fs's ErrNotExist for
// an object that is absent and io.ErrUnexpectedEOF for one that ends early.
type Store interface {
	// Get fills p with the object's bytes from off.
	Get(ctx context.Context, name string, off int64, p []byte) error
	// Size returns the object's length in bytes.
	Size(ctx context.Context, name string) (int64, error)
	// List yields the objects whose names begin with prefix.
	List(ctx context.Context, prefix string) iter.Seq2[Entry, error]
	// String names the store in messages.
	String() string
}

// Entry is one object in a listing. The type has no name of its own so that a
// store's method has the same one without either package knowing the other.
type Entry = struct {
	Name string
	Size int64
}

// local is what a store may implement to say that a request costs little more
// than the bytes it moves, as in a directory: then exactly the segments needed
// are read, and nothing is kept or read ahead, since the system below does it.
type local interface{ Local() bool }

func isLocal(s Store) bool {
	l, ok := s.(local)
	return ok && l.Local()
}

// fresher is what a store may implement that keeps copies of what it fetched:
// Get past them, for bytes that did not open, so that a damaged copy is not
// taken for a damaged volume.
type fresher interface {
	Fresh(ctx context.Context, name string, off int64, p []byte) error
}

// getFresh is Get from as near to the source as the store goes.
func getFresh(ctx context.Context, s Store, name string, off int64, p []byte) error {
	if f, ok := s.(fresher); ok {
		return f.Fresh(ctx, name, off, p)
	}
	return s.Get(ctx, name, off, p)
}
