//go:build linux

package shim

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"cloister/enclave/sidecar"
	"cloister/internal/fault"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mountWatch looks at the mounts of a run, for as long as they are needed.
type mountWatch struct {
	share, run string
	dirs       []string
	table      *os.File // polled for changes
	wake, end  *os.File // a pipe: closing end ends the watch
	stopOnce   sync.Once
	ended      chan struct{} // closed when wait has returned
}

// watchMounts returns nil and why, if a mount is not the run's.
func watchMounts(share string, dirs []string, run string) (*mountWatch, error) {
	// Opened before the first look, so that a change after it is not missed.
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	w := &mountWatch{share: share, dirs: dirs, run: run, table: table, ended: make(chan struct{})}
	if w.wake, w.end, err = os.Pipe(); err != nil {
		table.Close()
		return nil, err
	}
	if err := w.check(); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// check compares the mount table with what must be there.
func (w *mountWatch) check() error {
	table, err := mountinfo.GetMounts(nil)
	if err != nil {
		return fault.Errorf(fault.Refused, "let the container see /proc", "reading the mount table: %w", err)
	}
	if err := checkBare(table, w.share); err != nil {
		return err
	}
	for _, dir := range w.dirs {
		if err := checkMount(table, dir, w.run); err != nil {
			return err
		}
	}
	return nil
}

// checkBare wants what is beneath the volumes read-only.
func checkBare(table []*mountinfo.Info, share string) error {
	bare := below(table, share)
	if bare == nil || !slices.Contains(strings.Split(bare.Options, ","), "ro") {
		return fault.Errorf(fault.Refused, "mount the shared volume read-only in the application's container",
			"%s is writable where nothing is mounted: what is written there is never sealed", share)
	}
	return nil
}

// below returns the mount that a path lies in; of several at one place the last
// is the topmost.
func below(table []*mountinfo.Info, path string) (found *mountinfo.Info) {
	for _, m := range table {
		prefix := strings.TrimSuffix(m.Mountpoint, "/") + "/"
		if strings.HasPrefix(path+"/", prefix) && (found == nil || len(m.Mountpoint) >= len(found.Mountpoint)) {
			found = m
		}
	}
	return found
}

// checkMount wants a volume of this run at dir. The type is compared, not the
// file system's magic number, which virtiofs, the host's to fill, has in common
// with FUSE; and the source, which only who may mount can choose.
func checkMount(table []*mountinfo.Info, dir, run string) error {
	m := below(table, dir)
	switch {
	case m == nil || m.Mountpoint != dir:
		return fault.Errorf(fault.Refused, "let mounts reach this container: mountPropagation HostToContainer (rslave), and Bidirectional (rshared) for the runtime",
			"nothing is mounted at %s", dir)
	case m.FSType != sidecar.MountType || m.Source != sidecar.MountSource(run):
		return fault.Errorf(fault.Refused, "mount nothing but the runtime's volumes there",
			"at %s is a mount of type %s from %q, not that of run %s", dir, m.FSType, m.Source, run)
	}
	var unused unix.Statfs_t
	if err := unix.Statfs(dir, &unused); err != nil {
		return fault.Errorf(fault.Refused, "see the runtime's log", "the volume at %s does not answer: %w", dir, err)
	}
	return nil
}

// checkInterval is how often volumes are asked whether they answer, in
// milliseconds: a mount that is gone changes the table, which wakes at once, but
// one whose connection was cut does not.
const checkInterval = 1000

// wait returns true as soon as a mount is not there any more, and false once the
// watch is stopped.
func (w *mountWatch) wait() (lost bool) {
	defer close(w.ended)
	for {
		// proc(5): a change of the table is an exceptional condition.
		fds := []unix.PollFd{{Fd: int32(w.table.Fd()), Events: unix.POLLPRI}, {Fd: int32(w.wake.Fd())}}
		_, err := unix.Poll(fds, checkInterval)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil || fds[1].Revents != 0:
			return err != nil
		case w.check() != nil:
			return true
		}
	}
}

// stop ends a watch that wait is waiting in. It may be called again.
func (w *mountWatch) stop() {
	if w == nil {
		return
	}
	w.stopOnce.Do(func() {
		w.end.Close()
		<-w.ended
		w.close()
	})
}

func (w *mountWatch) close() {
	w.table.Close()
	w.wake.Close()
	w.end.Close()
}
