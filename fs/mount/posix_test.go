//go:build linux

package mount_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"golang.org/x/sys/unix"
)

// TestPosix runs go-fuse's suite where a read-only mount can pass it. All but
// ReadDirConsistency begin by writing; they run in an overlay that keeps what
// is written in memory and has the mount below, as container engines stack
// them, each in a directory that the mount holds.
func TestPosix(t *testing.T) {
	if len(posixtest.All) < 20 {
		t.Fatalf("the suite has %d tests", len(posixtest.All))
	}
	v := semanticsVolume()
	for name := range posixtest.All {
		v.Dir(name)
	}
	s, _ := mountOf(t, v)
	t.Run("on the mount", func(t *testing.T) {
		for _, dir := range []string{".", "d", "d/e", "empty"} {
			posixtest.ReadDirConsistency(t, filepath.Join(s.dir, dir))
		}
	})
	if os.Geteuid() != 0 {
		t.Skip("an overlay needs root")
	}
	dir := overlay(t, s.dir)
	for name, test := range posixtest.All {
		t.Run("overlay/"+name, func(t *testing.T) {
			if name == "FcntlFlockLocksFile" {
				t.Skip("not POSIX: see TestOutputPosix")
			}
			test(t, filepath.Join(dir, name))
		})
	}
}

// overlay mounts an overlay over lower for the length of a test.
func overlay(t *testing.T, lower string) (merged string) {
	t.Helper()
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=256m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Errorf("unmounting the overlay's memory: %v", err)
		}
	})
	for _, dir := range []string{"/upper", "/work", "/merged"} {
		if err := os.Mkdir(root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	merged = root + "/merged"
	if err := unix.Mount("overlay", merged, "overlay", 0, "lowerdir="+lower+",upperdir="+root+"/upper,workdir="+root+"/work"); err != nil {
		t.Fatalf("mounting an overlay, with the kernel's overlay module: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(merged, 0); err != nil {
			t.Errorf("unmounting the overlay: %v", err)
		}
	})
	return merged
}
