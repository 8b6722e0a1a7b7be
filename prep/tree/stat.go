package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// Entry is what a volume keeps of a file, directory, link or device, its
// contents apart. Attr.Nlink is not set.
type Entry struct {
	Attr    format.Attr
	Target  []byte // of a symlink
	Xattrs  []format.Xattr
	Version Version
	Inode   Inode
	Shared  bool // the inode has more names than one
	Sparse  bool // fewer blocks are allocated than the size needs: ask Data
}

// Inode tells a file from every other on this machine.
type Inode struct{ dev, ino uint64 }

// Version tells a file as it is now from what it was or another has become, as
// far as the system lets one see: by inode, size, and the times of its last
// changes of content and of attributes. A change within one tick of the
// file system's clock (a few milliseconds before Linux 6.13) does not show.
type Version struct {
	inode        Inode
	size         int64
	mtime, ctime format.Time
}

// Names returns the names in a directory, ascending by bytes.
func Names(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, Explain("reading directory", dir, err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, Explain("reading directory", dir, err)
	}
	slices.Sort(names)
	return names, nil
}

// Stat returns what a volume keeps of what is at path; a symlink is not
// followed.
func Stat(path string) (*Entry, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, Explain("reading", path, err)
	}
	e, err := entry(info)
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "move it out of the folder", "reading %s: %w", path, err)
	}
	switch e.Attr.Type() {
	case format.ModeSymlink:
		target, err := os.Readlink(path)
		if err != nil {
			return nil, Explain("reading symlink", path, err)
		}
		e.Target = []byte(target)
	case format.ModeFile, format.ModeDir:
		if e.Xattrs, err = xattrs(path); err != nil {
			return nil, Explain("reading extended attributes of", path, err)
		}
	}
	return e, nil
}

func entry(info fs.FileInfo) (*Entry, error) {
	mode, err := posixMode(info.Mode())
	if err != nil {
		return nil, err
	}
	e := &Entry{Attr: format.Attr{Mode: mode, Mtime: posixTime(info.ModTime())}}
	e.Attr.Ctime = e.Attr.Mtime
	if e.Attr.Type() == format.ModeFile {
		e.Attr.Size = uint64(info.Size())
	}
	fillSystem(e, info)
	e.Version = versionOf(e, info.Size())
	return e, nil
}

func versionOf(e *Entry, size int64) Version {
	return Version{inode: e.Inode, size: size, mtime: e.Attr.Mtime, ctime: e.Attr.Ctime}
}

var types = map[fs.FileMode]uint32{
	0: format.ModeFile, fs.ModeDir: format.ModeDir, fs.ModeSymlink: format.ModeSymlink,
	fs.ModeNamedPipe: format.ModeFifo, fs.ModeSocket: format.ModeSocket,
	fs.ModeDevice: format.ModeBlock, fs.ModeDevice | fs.ModeCharDevice: format.ModeChar,
}

// The bits of a mode beyond rwxrwxrwx.
var special = map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000}

func posixMode(m fs.FileMode) (uint32, error) {
	mode, ok := types[m.Type()]
	if !ok {
		return 0, fmt.Errorf("a volume cannot hold a file of this type (%v)", m)
	}
	mode |= uint32(m.Perm())
	for bit, posix := range special {
		if m&bit != 0 {
			mode |= posix
		}
	}
	return mode, nil
}

// FileMode returns a POSIX mode's permission bits, and those beyond rwxrwxrwx,
// as package os wants them.
func FileMode(posix uint32) fs.FileMode {
	m := fs.FileMode(posix & 0o777)
	for bit, p := range special {
		if posix&p != 0 {
			m |= bit
		}
	}
	return m
}

func posixTime(t time.Time) format.Time {
	return format.Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}

// Open opens a file that Stat has seen, for reading. It follows no symlink and
// waits for no fifo that has come into its place.
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|openFlags, 0)
	if errors.Is(err, fs.ErrNotExist) || isLoop(err) {
		return nil, Changed(path, "it is not there any more")
	}
	if err != nil {
		return nil, Explain("opening", path, err)
	}
	return f, nil
}

// Check reports as an error that the open file is not the version v any more.
// Called after the last read, it vouches for all that was read.
func Check(f *os.File, path string, v Version) error {
	info, err := f.Stat()
	if err != nil {
		return Explain("reading", path, err)
	}
	now, err := entry(info)
	if err != nil || now.Version != v {
		return Changed(path, "")
	}
	return nil
}

// Changed returns the error for a file that was changed or taken away while it
// was read; what may be "".
func Changed(path, what string) error {
	if what != "" {
		what = ": " + what
	}
	return fault.Errorf(fault.Conflict,
		"stop what writes to the folder, or seal a snapshot or copy of it, and run the command again",
		"%s changed while it was read%s; nothing was published", path, what)
}

// Explain turns a failure of the file system into the error a user meets.
func Explain(doing, path string, err error) error {
	kind, hint := classify(err)
	var p *fs.PathError
	var l *os.LinkError
	var s *os.SyscallError
	switch {
	case errors.As(err, &p):
		err = p.Err
	case errors.As(err, &l):
		err = l.Err
	case errors.As(err, &s):
		err = s.Err
	}
	return fault.Errorf(kind, hint, "%s %s: %w", doing, path, err)
}

func classify(err error) (fault.Kind, string) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.NotFound, "check the path"
	case errors.Is(err, fs.ErrPermission):
		return fault.Denied, "run this as a user who has access to it, or give this user access"
	case errors.Is(err, fs.ErrExist):
		return fault.Conflict, "name a place where nothing is yet"
	}
	return classifySystem(err)
}

// Join appends a name to a path without cleaning it: the bytes of names are
// kept, and no symlink on the way changes its meaning.
func Join(dir, name string) string {
	return strings.TrimSuffix(dir, string(os.PathSeparator)) + string(os.PathSeparator) + name
}
