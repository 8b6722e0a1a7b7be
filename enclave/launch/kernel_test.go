package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDelegatedGroup has a kernel of its own, Linux in user mode, whose control
// groups are all of version 2, which those of the machine that tests need not be. A
// runtime in a group that is its alone settles below it; what its application takes
// beyond its memory ends the application as a whole, and no process of the
// runtime's; and a runtime that is killed takes an application with it that does
// what it can to stay. Where groups are read-only, applications run all the same.
func TestDelegatedGroup(t *testing.T) {
	linux, err := exec.LookPath("linux.uml")
	if err != nil {
		t.Fatalf("control groups of version 2, with every controller, take a kernel that has them: %v; run `make test-setup` (apt-get install user-mode-linux)", err)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "launch.test")
	plain, err := plainProgram()
	must(t, err)
	must(t, os.WriteFile(program, plain, 0o755))
	cmd := exec.CommandContext(t.Context(), linux, "mem=384M", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "con=null", "con0=null,fd:1", "init="+program, "--", "kernel")
	cmd.Env = append(os.Environ(), "TMPDIR="+dir) // its memory is a file there
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	var said []string
	for line := range strings.Lines(string(out)) {
		if _, check, ok := strings.Cut(line, checked); ok {
			said = append(said, strings.TrimSpace(check))
		}
	}
	if want := len(kernelChecks); len(said) != want {
		t.Fatalf("%d of %d checks were made: %v\n%s", len(said), want, err, out)
	}
	for _, check := range said {
		if !strings.HasSuffix(check, "\tnil") {
			t.Error(check)
		}
	}
}

// checked begins the lines that say what came of a check, among the kernel's own.
const checked = "checked\t"

var kernelChecks = []struct {
	name string
	do   func() error
}{
	{"settles", func() error { return inGroup("settles", "settled") }},
	{"memory", func() error { return inGroup("memory", "greedy") }},
	{"killed", killedRuntime},
	{"shared", sharedGroup},
	{"read-only", readOnlyGroups},
}

// groups is where the kernel's are mounted.
const groups = "/sys/fs/cgroup"

// kernelInit is the first process of the kernel: it makes the checks and ends it.
func kernelInit() {
	err := errors.Join(unix.Mount("proc", "/proc", "proc", 0, ""), unix.Mount("sys", "/sys", "sysfs", 0, ""), unix.Mount("groups", groups, "cgroup2", 0, ""),
		os.WriteFile(groups+"/cgroup.subtree_control", []byte("+memory +pids +cpu"), 0))
	for _, c := range kernelChecks {
		if err == nil {
			fmt.Printf("%s%s\t%s\n", checked, c.name, strings.ReplaceAll(fmt.Sprint(either(c.do())), "\n", "; "))
		}
	}
	if err != nil {
		fmt.Println(err)
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func either(err error) any {
	if err == nil {
		return "nil"
	}
	return err
}

// runtimeIn starts this program as a runtime in a group that is its alone.
func runtimeIn(group, what string) (cmd *exec.Cmd, out *bytes.Buffer, err error) {
	if err := os.Mkdir(filepath.Join(groups, group), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, nil, err
	}
	dir, err := os.Open(filepath.Join(groups, group))
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	out = new(bytes.Buffer)
	cmd = exec.Command("/proc/self/exe", what)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	return cmd, out, cmd.Start()
}

// inGroup runs one to its end, which must be a good one.
func inGroup(group, what string) error {
	cmd, out, err := runtimeIn(group, what)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// settled is a runtime whose application reads what it is bounded by.
func settled() error {
	Settle()
	own, err := ownGroup()
	if err != nil || own != filepath.Join(groups, "settles", runtimePrefix+fmt.Sprint(os.Getpid())) {
		return fmt.Errorf("the runtime is in %s, %w", own, err)
	}
	var log bytes.Buffer
	for range 2 { // a second application is beside it too
		a := shell("sleep 1000 & exit 7")
		a.Limits, a.Log = Limits{MilliCPU: 500, MemoryMiB: 64}, slog.New(slog.NewTextHandler(&log, nil))
		if exit, err := Run(context.Background(), a); err != nil || exit != 7 {
			return fmt.Errorf("exit code %d, %w", exit, err)
		}
	}
	if want := `cgroup="kill cpu.max memory.max memory.oom.group pids.max"`; strings.Count(log.String(), want) != 2 {
		return fmt.Errorf("%s: %s was expected twice", &log, want)
	}
	left, err := filepath.Glob(filepath.Join(groups, "settles", groupPrefix+"*"))
	if len(left) > 0 {
		return fmt.Errorf("%q are left", left)
	}
	return err
}

// greedy is a runtime whose application takes more memory than it is given, in one
// of two processes: both end, the runtime and what else it started do not.
func greedy() error {
	Settle()
	beside := exec.Command("/proc/self/exe", "wait")
	in, err := beside.StdinPipe()
	if err != nil || beside.Start() != nil {
		return fmt.Errorf("starting a process beside it: %w", err)
	}
	a := shell("dd if=/dev/zero of=/dev/null bs=200M count=1; exec sleep 1000")
	a.Limits = Limits{MemoryMiB: 64}
	exit, err := Run(context.Background(), a)
	if err != nil || exit != signalled+int(unix.SIGKILL) {
		return fmt.Errorf("exit code %d, %w", exit, err)
	}
	in.Close()
	return beside.Wait() // an error if a signal ended it
}

// stays is an application that does what programs do to stay: in a session of its
// own, orphaned, deaf to signals, forking on.
const stays = `trap '' TERM HUP INT QUIT USR1 USR2
(trap '' TERM HUP INT QUIT; setsid sh -c 'trap "" TERM HUP INT QUIT; (while :; do sleep 1000 & sleep 0.1; done) & exit' & exit) &
echo up
while :; do sleep 1000 & sleep 0.1; done`

func stubborn() error {
	Settle()
	a := shell(stays)
	a.Stdout = os.Stdout
	_, err := Run(context.Background(), a)
	return err
}

// killedRuntime kills a runtime while its application is doing that.
func killedRuntime() error {
	cmd, _, err := runtimeIn("killed", "stubborn")
	if err != nil {
		return err
	}
	members := func() (n int) {
		lists, _ := filepath.Glob(filepath.Join(groups, "killed", groupPrefix+"*", "cgroup.procs"))
		for _, list := range lists {
			text, _ := os.ReadFile(list)
			n += len(strings.Fields(string(text)))
		}
		return n
	}
	if err := eventually("the application has spread", func() bool { return members() > 8 }); err != nil {
		return err
	}
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	_ = cmd.Wait()
	if err := eventually("no process of it is left", func() bool { return members() == 0 }); err != nil {
		return err
	}
	// What it left is empty, or the kernel would not remove it.
	left, err := filepath.Glob(filepath.Join(groups, "killed", "cloister-*"))
	if len(left) != 2 { // the runtime's and the application's
		return fmt.Errorf("its groups are %q, %w", left, err)
	}
	return errors.Join(unix.Rmdir(left[0]), unix.Rmdir(left[1]))
}

func eventually(what string, ok func() bool) error {
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("not within a minute: " + what)
		}
	}
	return nil
}

// sharedGroup is a group that another process is in too: nobody moves there.
func sharedGroup() error {
	other, _, err := runtimeIn("shared", "forever")
	if err != nil {
		return err
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	return inGroup("shared", "unsettled")
}

func unsettled() error {
	Settle()
	if own, err := ownGroup(); err != nil || own != filepath.Join(groups, "shared") {
		return fmt.Errorf("the runtime is in %s, %w", own, err)
	}
	exit, err := Run(context.Background(), shell("exit 7"))
	if err != nil || exit != 7 {
		return fmt.Errorf("exit code %d, %w", exit, err)
	}
	return nil
}

func readOnlyGroups() error {
	if err := os.Mkdir(groups+"/closed", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("", groups, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return err
	}
	return inGroup("closed", "closed")
}

func closed() error {
	Settle()
	var log bytes.Buffer
	a := shell("setsid sleep 1000 & exit 7")
	a.Limits, a.Log = Limits{MemoryMiB: 64}, slog.New(slog.NewTextHandler(&log, nil))
	exit, err := Run(context.Background(), a)
	if err != nil || exit != 7 || !strings.Contains(log.String(), `cgroup="none`) {
		return fmt.Errorf("exit code %d, %w: %s", exit, err, &log)
	}
	return nil
}

// inKernel is this program as a process of that kernel. It reports whether it is
// one.
func inKernel(what string) (is bool, err error) {
	switch what {
	case "kernel":
		kernelInit()
	case "settled":
		err = settled()
	case "greedy":
		err = greedy()
	case "stubborn":
		err = stubborn()
	case "unsettled":
		err = unsettled()
	case "closed":
		err = closed()
	case "forever":
		_, err = io.Copy(io.Discard, new(never))
	default:
		return false, nil
	}
	return true, err
}

// never is read for ever.
type never struct{}

func (*never) Read([]byte) (int, error) { time.Sleep(time.Second); return 0, nil }
