package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// view is the application's file system while it is being built: the runtime's
// root, read-only, below newRoot. Every mount in it is covered, whatever it is,
// and the volumes are mounted again on top: what is not named here does not
// show. Covering and not leaving out is what also works without privileges,
// where the kernel keeps mounts from being told apart (mount_namespaces(7)).
type view struct {
	limits  Limits
	texts   map[string][]byte
	covered []string // paths, as the application sees them
	empty   []string // those where nothing is to be made once the view is whole
}

// newRoot is where the view is built: a directory that every container has, and
// of which the application gets another.
const newRoot = "/proc"

// covering is how everything that covers is mounted.
const covering = unix.MS_NOSUID | unix.MS_NODEV

// enterView builds the view and leaves the runtime's file system behind.
func enterView(d description) error {
	table, err := mountinfo.GetMounts(nil)
	if err != nil {
		return fmt.Errorf("reading the mounts: %w", err)
	}
	v := &view{limits: d.Limits, texts: d.Texts}
	for _, step := range []func() error{
		v.root, v.temporaryFiles, v.devices,
		func() error { return d.Exchange.mount(v, d.UID, d.GID) },
		func() error { return v.cover("/sys") },
		func() error { return v.coverAll(table) },
		func() error { return v.volumes(d.Mounts) },
		v.processes, v.seal, enter,
	} {
		if err := step(); err != nil {
			return fmt.Errorf("building the application's view: %w", err)
		}
	}
	return nil
}

// root shows the runtime's root, and lets nothing that is mounted there later
// reach this namespace, nor the other way round.
func (v *view) root() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	// An image from scratch has none; where none can be made the application has
	// none.
	_ = os.Mkdir("/tmp", 0o1777)
	if err := unix.Mount("/", newRoot, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("binding the root: %w", err)
	}
	return restrictMount("/", unix.AT_RECURSIVE, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
}

func restrictMount(path string, flags uint, attributes uint64) error {
	if err := unix.MountSetattr(unix.AT_FDCWD, newRoot+path, flags, &unix.MountAttr{Attr_set: attributes}); err != nil {
		return fmt.Errorf("restricting %s: %w", path, err)
	}
	return nil
}

// mount covers a path with a new file system.
func (v *view) mount(path, kind string, flags uintptr, options string) error {
	if err := unix.Mount(kind, newRoot+path, kind, flags, options); err != nil {
		return fmt.Errorf("mounting %s: %w", path, err)
	}
	v.covered = append(v.covered, path)
	return nil
}

func (v *view) temporaryFiles() error {
	for _, dir := range []string{"/tmp", "/var/tmp"} {
		if info, err := os.Lstat(newRoot + dir); err != nil || !info.IsDir() {
			continue
		}
		if err := v.mount(dir, "tmpfs", covering, "mode=1777,"+v.limits.temporary()); err != nil {
			return err
		}
	}
	return nil
}

// devices are those that give and take bytes and nothing else, as in every
// container.
func (v *view) devices() error {
	if err := v.mount("/dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755,size=64k"); err != nil {
		return err
	}
	v.empty = append(v.empty, "/dev")
	for _, name := range []string{"null", "zero", "full", "random", "urandom"} {
		device := filepath.Join("/dev", name)
		if err := os.WriteFile(newRoot+device, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount(device, newRoot+device, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("binding %s: %w", device, err)
		}
	}
	for name, text := range v.texts {
		if err := os.WriteFile(filepath.Join(newRoot, "dev", name), text, 0o444); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, newRoot+"/dev/"+name); err != nil {
			return err
		}
	}
	if err := os.Mkdir(newRoot+"/dev/shm", 0o755); err != nil {
		return err
	}
	return v.mount("/dev/shm", "tmpfs", covering|unix.MS_NOEXEC, "mode=1777,"+v.limits.temporary())
}

// coverAll covers what is mounted that is not covered yet, each with what is
// mounted in it.
func (v *view) coverAll(table []*mountinfo.Info) error {
	slices.SortFunc(table, func(a, b *mountinfo.Info) int { return strings.Compare(a.Mountpoint, b.Mountpoint) })
	for _, m := range table {
		if m.Mountpoint == "/" || within(m.Mountpoint, newRoot) {
			continue
		}
		if err := v.cover(m.Mountpoint); err != nil {
			return err
		}
	}
	return nil
}

// cover puts an empty directory, or file, in the place of another.
func (v *view) cover(path string) error {
	if slices.ContainsFunc(v.covered, func(c string) bool { return within(path, c) }) {
		return nil
	}
	info, err := os.Lstat(newRoot + path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil: // the mount of a daemon that is gone, or lets nobody else in
		if err := unix.Unmount(newRoot+path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("taking %s away: %w", path, err)
		}
		return nil
	case !info.IsDir():
		v.covered = append(v.covered, path)
		return unix.Mount("/dev/null", newRoot+path, "", unix.MS_BIND, "")
	}
	v.empty = append(v.empty, path)
	return v.mount(path, "tmpfs", covering|unix.MS_NOEXEC, "mode=755,size=1m")
}

func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// volumes mounts them where they are in the runtime's view. What of them can be
// run is run.
func (v *view) volumes(mounts []Mount) error {
	for _, m := range mounts {
		path, err := filepath.EvalSymlinks(m.Path)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(newRoot+path, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(path, newRoot+path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("binding %s: %w", path, err)
		}
		attributes := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV)
		if !m.Writable {
			attributes |= unix.MOUNT_ATTR_RDONLY
		}
		if err := restrictMount(path, 0, attributes); err != nil {
			return err
		}
	}
	return nil
}

// masked are the files of /proc that say something of the machine or its keys
// and not of the application: those that containers do without.
var masked = [...]string{"kcore", "keys", "key-users", "timer_list", "sched_debug", "sysrq-trigger", "latency_stats"}

// processes hides the runtime's behind a /proc of this PID namespace; the init
// is not shown there either.
func (v *view) processes() error {
	if err := v.mount("/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "hidepid=2"); err != nil {
		return err
	}
	for _, name := range masked {
		err := unix.Mount("/dev/null", newRoot+"/proc/"+name, "", unix.MS_BIND, "")
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("masking /proc/%s: %w", name, err)
		}
	}
	return nil
}

// seal makes read-only what had to be written to.
func (v *view) seal() error {
	for _, path := range v.empty {
		if err := restrictMount(path, 0, unix.MOUNT_ATTR_RDONLY); err != nil {
			return err
		}
	}
	return nil
}

// enter makes the view the root, and takes the runtime's away: pivot_root(2),
// "pivot_root(".", ".")".
func enter() error {
	if err := unix.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the runtime's root: %w", err)
	}
	return unix.Chdir("/")
}
