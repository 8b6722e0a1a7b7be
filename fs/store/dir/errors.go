package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"cloister/internal/fault"
)

// shortError says that an object ended before the range asked for.
type shortError struct {
	size, off int64
	want      int
}

func (e *shortError) Error() string {
	return fmt.Sprintf("it has %d bytes, %d were asked for at %d", e.size, e.want, e.off)
}
func (e *shortError) Unwrap() error { return io.ErrUnexpectedEOF }

// kindError says that something other than a regular file has an object's name.
type kindError struct {
	name string
	mode os.FileMode
}

func (e *kindError) Error() string {
	what := "not a regular file"
	switch {
	case e.mode&os.ModeSymlink != 0:
		what = "a symbolic link"
	case e.mode.IsDir():
		what = "a directory"
	case e.mode.IsRegular():
		what = "not the file it was a moment ago"
	}
	return fmt.Sprintf("%s is %s", e.name, what)
}

// explain turns a failure into the error that a user meets: what was being
// done to which object of which store, and the remedy. name is "" where the
// failure is the whole store's.
func (s *Store) explain(doing, name string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	kind, hint := classify(err, name != "")
	what := fmt.Sprintf("volume directory %s", s.place)
	if name != "" {
		what = fmt.Sprintf("object %s of %s", name, s.place)
	}
	return fault.Errorf(kind, hint, "%s %s: %w", doing, what, plain(err))
}

// plain drops the operation and path that the operating system's errors carry:
// explain names the object already.
func plain(err error) error {
	var path *os.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}

func classify(err error, isObject bool) (fault.Kind, string) {
	var short *shortError
	var kind *kindError
	switch {
	case errors.As(err, &short):
		return fault.Refused, "the object is cut short: upload the volume again from its source"
	case errors.As(err, &kind):
		return fault.Refused, "a volume's objects are regular files: remove what is in the way, or copy the volume with its links followed"
	case errors.Is(err, os.ErrNotExist) && isObject:
		return fault.NotFound, ""
	case errors.Is(err, os.ErrNotExist):
		return fault.NotFound, "check the path of the volume"
	case errors.Is(err, os.ErrExist):
		return fault.Conflict, ""
	case errors.Is(err, os.ErrPermission):
		return fault.Denied, "give the user that runs this command access to the directory and the files in it"
	}
	return classifySystem(err)
}
