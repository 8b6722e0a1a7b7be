//go:build linux

package mount_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"cloister/internal/azurite"
	"cloister/internal/cli"

	"golang.org/x/sys/unix"
)

// TestOutputClosedIsDurable: what was closed gets into the store with nobody
// asking for it, and is there after a kill. How soon is not judged here.
func TestOutputClosedIsDurable(t *testing.T) {
	s := newOutputSite(t, uint32(os.Geteuid()))
	d := s.mount(t, "--output")
	records := func() int {
		list, err := filepath.Glob(s.volume + "/journal/*")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := records()
	write(t, s.dir+"/f", "closed")
	until(t, "a record of what was closed", func() bool { return records() > before })
	d.signal(syscall.SIGKILL)
	d.wait()
	_ = syscall.Unmount(s.dir, syscall.MNT_DETACH)
	d = s.mount(t, "--output")
	reads(t, s.dir+"/f", "closed")
	d.stop(s)
}

// TestOutputSyncfs: FUSE is never told of syncfs(2) and sync(2). They succeed
// although the store takes nothing, where fsync of the same file says EIO.
func TestOutputSyncfs(t *testing.T) {
	s, refuses := newFailingSite(t, azurite.Start(t))
	d := s.mount(t, "--output")
	f := writers(t, s.dir+"/f", 1)[0]
	refuses.Store(true)
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		t.Errorf("syncfs: %v: it is passed on, and the page is wrong", err)
	}
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("fsync: %v", err)
	}
	refuses.Store(false)
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Error(err)
	}
	d.ends(cli.ExitUnavailable)
}
