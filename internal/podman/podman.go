// Package podman runs real containers in tests: podman with runc, its images and
// containers in a folder of the test's own, nothing from a registry.
//
// Life of an engine: New makes its folder and configuration, and fails the test
// with the command that installs what is missing; Load takes an image; Command
// makes the command line that runs one. When the test ends, containers and
// pods that it left are removed, and the folder.
package podman

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// configuration: the limits and the runtime are those that also hold where this
// is itself in a container, without CAP_SYS_RESOURCE and with cgroups v1 and v2.
const configuration = `[containers]
default_ulimits=["nofile=20000:20000","nproc=4096:4096"]
[engine]
runtime="runc"
cgroup_manager="cgroupfs"
events_logger="file"
`

// Engine is podman for one test.
type Engine struct {
	t   testing.TB
	dir string
}

// New returns an engine. It needs root: only root may share mounts between
// containers.
func New(t testing.TB) *Engine {
	t.Helper()
	for _, program := range []string{"podman", "runc", "conmon", "catatonit"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("running containers: %v; run `make test-setup` (apt-get install podman runc conmon catatonit)", err)
		}
	}
	if os.Getuid() != 0 {
		t.Fatal("running containers that share mounts needs root: run the tests as root")
	}
	dir, err := os.MkdirTemp("", "podman-")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "containers.conf"), []byte(configuration), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{t: t, dir: dir}
	t.Cleanup(e.close)
	return e
}

// Command makes a podman command. What it starts ends with the test's process.
func (e *Engine) Command(args ...string) *exec.Cmd {
	place := []string{"--root", filepath.Join(e.dir, "storage"), "--runroot", filepath.Join(e.dir, "run"), "--tmpdir", filepath.Join(e.dir, "tmp"),
		"--network-config-dir", filepath.Join(e.dir, "networks"), "--log-level", "error"}
	cmd := exec.Command("podman", append(place, args...)...)
	cmd.Env = append(os.Environ(), "CONTAINERS_CONF="+filepath.Join(e.dir, "containers.conf"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return cmd
}

// Do runs a podman command, which must succeed, and returns what it printed.
func (e *Engine) Do(args ...string) string {
	e.t.Helper()
	cmd := e.Command(args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		e.t.Fatalf("podman %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// Load gives the engine the image of that name in an OCI layout, which it then
// knows as localhost/NAME:test.
func (e *Engine) Load(dir, name string) {
	e.t.Helper()
	id := e.Do("pull", "--quiet", "oci:"+dir+":"+name)
	e.Do("tag", id, "localhost/"+name+":test")
}

// close removes what the test left, and what it had.
func (e *Engine) close() {
	for _, args := range [][]string{{"pod", "rm", "--all", "--force", "--time", "0"}, {"rm", "--all", "--force", "--time", "0"}} {
		if out, err := e.Command(args...).CombinedOutput(); err != nil {
			e.t.Errorf("podman %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	// podman keeps its storage mounted, as a mount of its own.
	_ = syscall.Unmount(filepath.Join(e.dir, "storage", "overlay"), syscall.MNT_DETACH)
	if err := os.RemoveAll(e.dir); err != nil {
		e.t.Error(err)
	}
}
