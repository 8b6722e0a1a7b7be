//go:build linux

package mount

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"cloister/internal/fault"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Options are how a volume is mounted. The zero value will do.
type Options struct {
	// Logger gets one line for each failed operation; nil discards them.
	Logger *slog.Logger
	// Names lets that line name the file, for whoever reads the log to know.
	// Input mounts only.
	Names bool
	// Owner, if set, is shown as the owner of everything in an input volume. The
	// modes stay, so that he may do what the volume's owner could; with nil the
	// owners are the volume's, which are users of its owner's machine.
	Owner *Owner
	// Source is what mount tables name as the mount's source, by which who sees it
	// can tell whose it is; "cloister" where it is "".
	Source string
}

// Owner is a user of this machine, and its group.
type Owner struct{ UID, GID uint32 }

// Mount is a volume that the kernel is being served.
type Mount struct {
	dir    string
	server *fuse.Server
	done   chan struct{} // closed when nothing is served any more
}

// profile is what tells an input mount from an output mount.
type profile struct {
	readOnly bool
	// immutable: nothing ever changes behind the kernel's back, so it need not
	// ask again for pages or symlinks.
	immutable bool
	source    string // "" is fsType
}

// maxRequest is the largest read or write the kernel is asked to send: Linux's
// own limit, 256 pages (FUSE_MAX_MAX_PAGES before 6.13, and still the default
// of fs.fuse.max_pages_limit).
const maxRequest = 1 << 20

// maxBackground is how many read-ahead requests the kernel keeps in flight. 12,
// its default, starves the second of two sequential readers.
const maxBackground = 64

// start mounts raw at dir and returns when the kernel is being served.
func start(dir string, raw fuse.RawFileSystem, p profile) (*Mount, error) {
	if err := Check(); err != nil {
		return nil, err
	}
	dir, err := prepareDir(dir)
	if err != nil {
		return nil, err
	}
	server, err := fuse.NewServer(raw, dir, fuseOptions(p))
	if err != nil {
		return nil, explainMount(dir, err)
	}
	makeRoom()
	m := &Mount{dir: dir, server: server, done: make(chan struct{})}
	go func() {
		server.Serve()
		close(m.done)
	}()
	if err := server.WaitMount(); err != nil {
		return nil, errors.Join(fmt.Errorf("waiting for the mount at %s: %w", dir, err), m.Detach())
	}
	m.widenReadAhead()
	return m, nil
}

// makeRoom raises GOMAXPROCS by the goroutines with which go-fuse waits for
// requests: one more than GOMAXPROCS, from 2 to 16. Each keeps its place in
// Go's scheduler while it waits in the kernel. Were there fewer places than
// goroutines, every few requests would meet one without a place and cost it
// two futex calls to get one: a null file system answered 46,000 reads of
// 4 KiB a second instead of 63,000 (2 CPUs, Linux 6.18, Go 1.26.8).
func makeRoom() {
	n := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(n + min(max(n, 2), 16) + 1)
}

// fuseOptions are the same for root and for anybody else but for who mounts
// and who may enter. nosuid, nodev and default_permissions always hold: modes
// and owners in a volume are another party's words.
func fuseOptions(p profile) *fuse.MountOptions {
	root := os.Geteuid() == 0
	o := &fuse.MountOptions{
		Name: fsType, FsName: cmp.Or(p.source, fsType),
		MaxWrite: maxRequest, MaxBackground: maxBackground,
		// A reply of 1 MiB and its header do not fit a pipe of 1 MiB, and our
		// replies are in memory: splicing them gains nothing.
		DisableSplice:            true,
		EnableSymlinkCaching:     p.immutable,
		ExplicitDataCacheControl: p.immutable,
		// A large O_DIRECT read is sent as parallel ones.
		ExtraCapabilities: fuse.CAP_ASYNC_DIO,
		Options:           []string{"default_permissions"},
		AllowOther:        root,
		DirectMountStrict: root,
		DirectMountFlags:  syscall.MS_NOSUID | syscall.MS_NODEV,
	}
	if !p.immutable {
		// The kernel asks for attributes with a listing only when programs want
		// them. An input mount decides that itself, and better: see statGuess.
		o.ExtraCapabilities |= fuse.CAP_READDIRPLUS_AUTO
	}
	if !p.readOnly {
		// With it the kernel asks once a file, not at each write, whether there
		// are capabilities to take away.
		o.ExtraCapabilities |= fuse.CAP_HANDLE_KILLPRIV_V2
	}
	if p.readOnly {
		o.DirectMountFlags |= syscall.MS_RDONLY
	}
	if !root { // fusermount3 takes as words what mount(2) takes as flags
		o.Options = append(o.Options, "nosuid", "nodev")
		if p.readOnly {
			o.Options = append(o.Options, "ro")
		}
	}
	return o
}

// Dir returns where the volume is mounted, as an absolute path.
func (m *Mount) Dir() string { return m.dir }

// Done is closed when the mount has ended, whoever unmounted it.
func (m *Mount) Done() <-chan struct{} { return m.done }

// Unmount takes the mount away for real: when it has returned nil, no program
// can reach the volume any more, not even through a descriptor it kept. While
// a program holds the mount it is an error of kind Conflict that says who, and
// the mount goes on serving.
func (m *Mount) Unmount() error {
	err := m.unmount()
	if err == nil {
		return nil
	}
	if e, ok := mountAt(m.dir); !ok || !e.ours() { // somebody else has unmounted it
		return nil
	}
	if !isBusy(err) {
		return fmt.Errorf("unmounting %s: %w", m.dir, err)
	}
	return fault.Errorf(fault.Conflict, "end these programs, or leave the directory in their shells",
		"unmounting %s: it is in use%s", m.dir, describeHolders(m.dir))
}

// servedTime is how long requests that programs have given up, being killed, are
// waited for: nobody takes their answers, and a store may never give one.
const servedTime = 5 * time.Second

// unmount returns when the mount is gone and, within servedTime, nothing of it is
// being answered.
func (m *Mount) unmount() error {
	result := make(chan error, 1)
	go func() {
		err := m.server.Unmount() // waits for all answers
		if err == nil {
			<-m.done
		}
		result <- err
	}()
	select {
	case err := <-result:
		return err
	case <-time.After(servedTime):
	}
	if e, ok := mountAt(m.dir); ok && e.ours() {
		return syscall.EBUSY
	}
	return nil
}

// Detach takes the mount out of the tree although programs may hold it. They
// keep what they have open, and see it until they let go or the process that
// serves it ends.
func (m *Mount) Detach() error {
	select {
	case <-m.done:
		return nil
	default:
		return detach(m.dir)
	}
}

// Abort has the kernel fail what the mount has not answered, and all that comes
// after: who waits for an answer that does not come can be killed then. What is
// left to do is to unmount it.
func (m *Mount) Abort() error {
	e, ok := mountAt(m.dir)
	if !ok || !e.ours() {
		return nil // it has gone
	}
	var err error
	if os.Geteuid() == 0 {
		err = syscall.Unmount(m.dir, syscall.MNT_FORCE)
	} else {
		_, connection, _ := strings.Cut(e.device, ":")
		err = os.WriteFile("/sys/fs/fuse/connections/"+connection+"/abort", []byte("1"), 0)
	}
	if err != nil && !isBusy(err) { // aborted, it may still be in use
		return fmt.Errorf("aborting the mount at %s: %w", m.dir, err)
	}
	return nil
}

func isBusy(err error) bool {
	return errors.Is(err, syscall.EBUSY) || strings.Contains(err.Error(), "busy") // fusermount3's words
}

func explainMount(dir string, err error) error {
	switch {
	case errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES):
		return fault.Errorf(fault.Denied, "mounting needs CAP_SYS_ADMIN and /dev/fuse: in a container, --device /dev/fuse --cap-add SYS_ADMIN",
			"mounting at %s: %w", dir, err)
	case os.Geteuid() != 0:
		return fault.Errorf(fault.Denied, "the directory must be yours and writable, and /dev/fuse must be open to fusermount3",
			"mounting at %s: %w", dir, err)
	}
	return fmt.Errorf("mounting at %s: %w", dir, err)
}
