package launch

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGroup: the application is in a control group of its own, which is gone
// when it is; so is one that a killed runtime left.
func TestGroup(t *testing.T) {
	own, err := ownGroup()
	if err != nil || os.Getuid() != 0 {
		t.Fatalf("the test needs to be root and control groups of version 2 (mount -t cgroup2 none /sys/fs/cgroup): %v", err)
	}
	gone := exec.Command("true")
	must(t, gone.Run())
	stale := strings.Replace(groupPattern(own, gone.Process.Pid), "*", "1", 1)
	must(t, os.Mkdir(stale, 0o755))

	said, stdout, err := os.Pipe()
	must(t, err)
	a := shell("echo up; sleep 1000 & exec sleep 1000")
	a.Stdout = stdout
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := Run(ctx, a)
		ended <- err
	}()
	if _, err := io.ReadFull(said, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(groupPattern(own, os.Getpid()))
	if err != nil || len(found) != 1 {
		t.Fatalf("its groups are %q, %v", found, err)
	}
	dir := found[0]
	members, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if n := len(strings.Fields(string(members))); err != nil || n < 2 { // the init and the application
		t.Errorf("%d are in the group, %v", n, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, d := range []string{dir, stale} {
		if _, err := os.Stat(d); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", d, err)
		}
	}
}

// TestGroupLimits writes to a directory in the place of a control group with
// every controller: what is tested is what is written to which file.
func TestGroupLimits(t *testing.T) {
	g := makeGroupIn(t.TempDir(), Limits{MilliCPU: 1500, MemoryMiB: 64})
	if g == nil {
		t.Fatal("there is no group")
	}
	for name, want := range map[string]string{"pids.max": "4096", "memory.max": "67108864", "memory.oom.group": "1", "cpu.max": "150000 100000"} {
		if got, err := os.ReadFile(filepath.Join(g.dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %s", name, got, err, want)
		}
	}
}
