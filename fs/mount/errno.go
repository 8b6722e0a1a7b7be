//go:build linux

package mount

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"syscall"

	"cloister/fs"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// errnos is the one table from errors to what the application sees. The first
// line that fits decides; what fits none is EIO, so that a failure below is
// never taken for an answer about the file.
var errnos = []struct {
	err   error
	errno syscall.Errno
}{
	{fs.ErrDamaged, syscall.EIO},
	{context.Canceled, syscall.EINTR},
}

// errnoOf returns what the application sees of err. An error that is itself a
// syscall.Errno is the file system's answer; one that merely wraps an errno
// comes from the store below, and a missing object is not a missing file.
func errnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if errno, ok := err.(syscall.Errno); ok {
		return errno
	}
	for _, e := range errnos {
		if errors.Is(err, e.err) {
			return e.errno
		}
	}
	return syscall.EIO
}

// failures is the one place that logs failed operations. It logs I/O errors
// only, and names objects and segments; files only by Options.Names, as the host
// can read the log.
type failures struct {
	log *slog.Logger

	mu   sync.Mutex // guards seen
	seen map[damage]bool
}

type damage struct {
	object  string
	segment int64
}

// maxSeen bounds the damage that is remembered as logged; a volume with more
// than that is logged repeatedly rather than held in memory.
const maxSeen = 10_000

func newFailures(log *slog.Logger) *failures {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &failures{log: log, seen: map[damage]bool{}}
}

// status turns the error of operation op into the reply's status.
func (f *failures) status(op string, err error) fuse.Status {
	errno := errnoOf(err)
	if errno == syscall.EIO && f.first(err) {
		args := []any{"operation", op, "error", err}
		var named *namedError
		if errors.As(err, &named) {
			args = append(args, "file", named.path())
		}
		f.log.Error("operation failed", args...)
	}
	return fuse.Status(errno)
}

// first reports whether err is to be logged: damage is, once.
func (f *failures) first(err error) bool {
	var d *fs.DamageError
	if !errors.As(err, &d) {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	k := damage{d.Object.String(), d.Segment}
	if f.seen[k] {
		return false
	}
	if len(f.seen) < maxSeen {
		f.seen[k] = true
	}
	return true
}
