//go:build linux

package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloister/internal/fault"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// table is a mount table in a container: a line "POINT TYPE SOURCE OPTIONS".
func table(lines ...string) (list []*mountinfo.Info) {
	for _, line := range lines {
		f := strings.Fields(line)
		list = append(list, &mountinfo.Info{Mountpoint: f[0], FSType: f[1], Source: f[2], Options: f[3]})
	}
	return list
}

// TestOnlyThisRunsMounts: /proc answers statfs, as a volume that lives does, so
// that what is compared is the table alone.
func TestOnlyThisRunsMounts(t *testing.T) {
	for name, tc := range map[string]struct {
		table []string
		said  string // "" is: it is this run's
	}{
		"this run's":          {[]string{"/ overlay overlay ro", "/proc fuse.cloister cloister:run-1 rw"}, ""},
		"nothing there":       {[]string{"/ overlay overlay ro"}, "nothing is mounted at /proc"},
		"something above":     {[]string{"/ overlay overlay ro", "/pro fuse.cloister cloister:run-1 rw"}, "nothing is mounted at /proc"},
		"something beneath":   {[]string{"/ overlay overlay ro", "/proc/self fuse.cloister cloister:run-1 rw"}, "nothing is mounted at /proc"},
		"another run's":       {[]string{"/proc fuse.cloister cloister:run-2 rw"}, "not that of run run-1"},
		"no run's":            {[]string{"/proc fuse.cloister cloister rw"}, "not that of run run-1"},
		"the host's virtiofs": {[]string{"/proc virtiofs cloister:run-1 rw"}, "type virtiofs"},
		"another's FUSE":      {[]string{"/proc fuse.other cloister:run-1 rw"}, "type fuse.other"},
		"a folder":            {[]string{"/proc ext4 cloister:run-1 rw"}, "type ext4"},
		"covered":             {[]string{"/proc fuse.cloister cloister:run-1 rw", "/proc tmpfs tmpfs rw"}, "type tmpfs"},
	} {
		err := checkMount(table(tc.table...), "/proc", "run-1")
		if tc.said == "" && err != nil || tc.said != "" && (fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), tc.said)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	gone := table("/absent fuse.cloister cloister:run-1 rw")
	if err := checkMount(gone, "/absent", "run-1"); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("a volume that does not answer: %v", err)
	}
}

func TestBareIsReadOnly(t *testing.T) {
	for name, tc := range map[string]struct {
		table []string
		ok    bool
	}{
		"read-only":           {[]string{"/ overlay overlay rw", "/mnt/share ext4 disk ro,relatime"}, true},
		"in a read-only root": {[]string{"/ overlay overlay ro,relatime"}, true},
		"writable":            {[]string{"/ overlay overlay ro", "/mnt/share ext4 disk rw"}, false},
		"an option like it":   {[]string{"/mnt/share ext4 disk rw,errors=remount-ro"}, false},
		"covered":             {[]string{"/mnt/share ext4 disk ro", "/mnt/share ext4 disk rw"}, false},
		"no table":            {nil, false},
	} {
		if err := checkBare(table(tc.table...), "/mnt/share"); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAMountThatGoes is seen when it goes, by the kernel's table.
func TestAMountThatGoes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("mounting a file system to take it away needs root: run the tests as root")
	}
	dir := t.TempDir()
	// In the place of the shared volume: what is tested is that its end is seen.
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	w := &mountWatch{share: dir, table: file, ended: make(chan struct{})}
	if w.wake, w.end, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := w.check(); err != nil {
		t.Fatal(err)
	}
	lost := make(chan bool, 1)
	go func() { lost <- w.wait() }()
	if err := unix.Unmount(dir, 0); err != nil { // what is beneath is writable
		t.Fatal(err)
	}
	select {
	case is := <-lost:
		if !is {
			t.Error("the watch ended without having seen it")
		}
	case <-time.After(time.Minute):
		t.Error("it was not seen")
	}
	w.stop()
}

// TestARefusedWatchIsNone: /proc is writable, by its mount options, and so no bare
// mount point.
func TestARefusedWatchIsNone(t *testing.T) {
	w, err := watchMounts("/proc", nil, "run-1")
	if err == nil {
		t.Fatal("/proc was taken for a read-only directory")
	}
	if w != nil {
		t.Error("a watch that is refused is one all the same")
	}
}

func TestDevices(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "absent")
	if err := checkDevices([]string{absent}); err != nil {
		t.Error(err)
	}
	if err := checkDevices([]string{absent, "/dev/null"}); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "/dev/null") {
		t.Errorf("a device that can be opened: %v", err)
	}
}
