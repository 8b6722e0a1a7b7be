//go:build linux

package mount

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"cloister/internal/fault"
)

// fsType is what mount tables call our mounts, after "fuse.".
const fsType = "cloister"

// Check says what the machine lacks for mounting, with the remedy.
func Check() error {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return fault.Errorf(fault.NotFound, "load the kernel's module with `modprobe fuse`, or start the container with --device /dev/fuse",
			"mounting needs /dev/fuse: %w", err)
	}
	if os.Geteuid() == 0 {
		return nil
	}
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		return fault.Errorf(fault.Denied, "open it to users, as udev does, with `chmod 0666 /dev/fuse`; or mount as root",
			"mounting without being root needs /dev/fuse: %w", err)
	} else {
		f.Close()
	}
	if _, err := fusermount(); err != nil {
		return fault.Errorf(fault.NotFound, "install it with `apt-get install fuse3`, or mount as root",
			"mounting without being root needs fusermount3: %w", err)
	}
	return nil
}

func fusermount() (string, error) {
	if bin, err := exec.LookPath("fusermount3"); err == nil {
		return bin, nil
	}
	return exec.LookPath("fusermount")
}

// prepareDir returns dir as the mount table will call it, after clearing a
// dead mount there.
func prepareDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("mounting at %s: %w", dir, err)
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", explainDir(abs, err)
	}
	abs = filepath.Join(parent, filepath.Base(abs))
	if err := clearDead(abs); err != nil {
		return "", err
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return "", explainDir(abs, err)
	}
	info, err := os.Stat(abs)
	if err != nil {
		return "", explainDir(abs, err)
	}
	if !info.IsDir() {
		return "", fault.Errorf(fault.Usage, "name an empty directory", "mounting at %s: it is not a directory", abs)
	}
	if e, ok := mountAt(abs); ok && e.ours() {
		return "", fault.Errorf(fault.Conflict, "unmount it first, or name another directory",
			"mounting at %s: a volume is mounted there already", abs)
	}
	return abs, nil
}

func explainDir(dir string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fault.Errorf(fault.NotFound, "make the directory first", "mounting at %s: %w", dir, err)
	}
	return fmt.Errorf("mounting at %s: %w", dir, err)
}

// clearDead takes away what a killed daemon left at dir: the kernel answers
// ENOTCONN there until somebody unmounts it, but for what it has cached, and so
// statfs is asked, which it never caches. Only a mount of ours is touched.
func clearDead(dir string) error {
	for {
		var unused syscall.Statfs_t
		err := syscall.Statfs(dir, &unused)
		if !errors.Is(err, syscall.ENOTCONN) {
			return nil
		}
		if e, ok := mountAt(dir); !ok || !e.ours() {
			return fault.Errorf(fault.Conflict, "unmount it with `umount -l`", "mounting at %s: a dead mount that is not ours is in the way: %w", dir, err)
		}
		if err := detach(dir); err != nil {
			return err
		}
	}
}

// detach unmounts lazily.
func detach(dir string) error {
	if os.Geteuid() == 0 {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			return fmt.Errorf("detaching the mount at %s: %w", dir, err)
		}
		return nil
	}
	bin, err := fusermount()
	if err != nil {
		return fmt.Errorf("detaching the mount at %s: %w", dir, err)
	}
	if out, err := exec.Command(bin, "-u", "-z", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("detaching the mount at %s: %w: %s", dir, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// tableEntry is a line of /proc/self/mountinfo: proc(5).
type tableEntry struct {
	device string // major:minor
	fsType string
}

func (e tableEntry) ours() bool { return e.fsType == "fuse."+fsType }

// mountAt returns the topmost mount at exactly dir.
func mountAt(dir string) (found tableEntry, ok bool) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return tableEntry{}, false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		before, after, cut := strings.Cut(lines.Text(), " - ")
		fields, tail := strings.Fields(before), strings.Fields(after)
		if cut && len(fields) >= 5 && len(tail) > 0 && unescape(fields[4]) == dir {
			found, ok = tableEntry{device: fields[2], fsType: tail[0]}, true
		}
	}
	return found, ok
}

// unescape undoes the mount table's \ooo for space, tab, new line, backslash.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// readAheadKiB is how far the kernel reads ahead of a sequential reader: four
// of its largest requests, so that one is answered while the next is opened.
const readAheadKiB = 4 << 10

// widenReadAhead lifts the kernel's read-ahead from the 128 KiB that FUSE
// starts with: cold sequential reads are several times faster in requests of
// 1 MiB. It needs root and a writable /sys; without, reads are right and slower.
func (m *Mount) widenReadAhead() {
	e, ok := mountAt(m.dir)
	if !ok {
		return
	}
	name := "/sys/class/bdi/" + e.device + "/read_ahead_kb"
	_ = os.WriteFile(name, []byte(strconv.Itoa(readAheadKiB)), 0)
}
