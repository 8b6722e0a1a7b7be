package launch

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ExchangeDir is where an application finds its Exchange.
const ExchangeDir = "/dev/job"

// Exchange is a directory in memory, of one Run, that is the application's own. It
// finds files there, and what files it leaves there the runtime reads. Nothing of it
// is ever on a disk: the init mounts it in the application's view alone, and hands
// the runtime the open directory, which outlives the view.
type Exchange struct {
	Files map[string][]byte `json:"files"` // that are there at the start, by name
	Size  int64             `json:"size"`  // bytes that fit in it, more than 0
	// Opened is called before the application starts, with what Close closes.
	Opened func(*Exchanged) `json:"-"`
}

// maxExchanged is how many files and directories fit in an exchange.
const maxExchanged = 1024

// mount makes the directory in the view, with its files.
func (x *Exchange) mount(v *view, uid, gid uint32) error {
	if x == nil {
		return nil
	}
	if err := os.Mkdir(newRoot+ExchangeDir, 0o700); err != nil {
		return err
	}
	options := fmt.Sprintf("mode=700,uid=%d,gid=%d,size=%d,nr_inodes=%d", uid, gid, x.Size, maxExchanged)
	if err := v.mount(ExchangeDir, "tmpfs", covering|unix.MS_NOEXEC, options); err != nil {
		return err
	}
	for name, text := range x.Files {
		if err := os.WriteFile(filepath.Join(newRoot+ExchangeDir, filepath.Base(name)), text, 0o444); err != nil {
			return err
		}
	}
	return nil
}

// give hands the directory to the runtime, which waits for it.
func (x *Exchange) give(to *net.UnixConn) error {
	if x == nil {
		return nil
	}
	dir, err := os.Open(ExchangeDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	_, _, err = to.WriteMsgUnix([]byte("{}"), unix.UnixRights(int(dir.Fd())), nil)
	return err
}

// take is the runtime's side of give. Of an init that ended before there is nothing
// to take; its exit code says why.
func (x *Exchange) take(n *Network) {
	if x == nil {
		return
	}
	var message struct{}
	if dir, err := receive(n.init, &message); dir != nil && err == nil {
		x.Opened(&Exchanged{dir})
	}
}

// Exchanged is an exchange as the runtime has it.
type Exchanged struct{ dir *os.File }

// ErrTooLarge is of a file that has more bytes than are read.
var ErrTooLarge = errors.New("it is too large")

// Read returns the regular file of that name, of at most so many bytes: more are
// ErrTooLarge, and none there is os.ErrNotExist. What else the application puts in
// its place, links and devices too, is not followed and not waited for.
func (x *Exchanged) Read(name string, most int64) ([]byte, error) {
	fd, err := unix.Openat2(int(x.dir.Fd()), name, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading %s: it is no regular file", name)
	}
	if info.Size() > most {
		return nil, fmt.Errorf("reading %s: %w", name, ErrTooLarge)
	}
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("reading %s: %w", name, ErrTooLarge)
	}
	return text, err
}

// Close lets the directory go, and with it its memory once the application has ended.
func (x *Exchanged) Close() error { return x.dir.Close() }
