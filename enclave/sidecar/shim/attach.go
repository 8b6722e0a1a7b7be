//go:build linux

package shim

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"cloister/enclave/sidecar"
	"cloister/internal/fault"

	"golang.org/x/sys/unix"
)

// attach waits for a runtime, and returns it if it is the right one. What is
// wrong with it or its mounts ends the shim: a deployment does not become right
// by waiting. A signal ends the waiting.
func (c Config) attach(signals <-chan os.Signal) (*attached, error) {
	changes, err := watchDir(c.Share)
	if err != nil {
		return nil, fault.Errorf(fault.NotFound, "mount the shared volume in both containers, here read-only", "watching the shared directory: %w", err)
	}
	defer changes.Close()
	found := make(chan greeting, 1)
	go func() { found <- greet(c.Share, changes) }()
	for {
		select {
		case s := <-signals:
			if s == syscall.SIGTERM || s == syscall.SIGINT {
				return nil, fault.Errorf(fault.Incomplete, "run it again", "a signal ended the container while it waited for the runtime")
			}
		case g := <-found:
			if g.err != nil {
				return nil, fmt.Errorf("waiting for the runtime: %w", g.err)
			}
			return c.admit(g)
		}
	}
}

// greeting is a runtime's first message.
type greeting struct {
	conn *sidecar.Conn
	said sidecar.Message
	err  error
}

// greet connects to the socket in dir, each time that something appears there,
// until a runtime answers. A socket that a killed runtime left refuses, one that
// another shim has reached hangs up.
func greet(dir string, changes *os.File) greeting {
	buffer := make([]byte, 64<<10)
	for {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: sidecar.Socket(dir), Net: "unix"})
		if err == nil {
			conn := sidecar.NewShimConn(c)
			if said, err := conn.Receive(); err == nil && said.Run != "" {
				return greeting{conn: conn, said: said}
			}
			conn.Close()
		} else if !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ECONNREFUSED) {
			return greeting{err: err}
		}
		if _, err := changes.Read(buffer); err != nil {
			return greeting{err: err}
		}
	}
}

// watchDir returns a file that can be read when something has appeared in dir:
// inotify(7).
func watchDir(dir string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "watch", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), "inotify"), nil
}

// admit compares what the runtime said with what is measured, and with the
// kernel's mount table.
func (c Config) admit(g greeting) (*attached, error) {
	r := newAttached(g.conn, g.said)
	err := c.compare(g.said)
	if err == nil {
		r.mounts, err = watchMounts(c.Share, c.Mounts, g.said.Run)
	}
	if err != nil {
		r.refuse(err)
		r.close()
		return nil, err
	}
	return r, nil
}

func (c Config) compare(said sidecar.Message) error {
	if said.Specification != c.Specification {
		return fault.Errorf(fault.Refused, "give both containers the specification that was agreed",
			"the runtime carries out specification %.100q, this container's measured command line names %s", said.Specification, c.Specification)
	}
	return nil
}
