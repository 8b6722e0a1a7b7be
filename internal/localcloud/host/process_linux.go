package host

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// attributes make the process the first of a process group, by which its children
// are found, and end it in order where this process is killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

func terminate(p *os.Process) { p.Signal(syscall.SIGTERM) } //nolint:errcheck // it has ended

// kill ends what is left of a process group whose first process was not reaped yet,
// so that the number is no other's.
func kill(pid int) { syscall.Kill(-pid, syscall.SIGKILL) } //nolint:errcheck // nothing is left

// lives tells whether a process group has a process that has not ended. The first
// has, and is not reaped.
func lives(group int) bool {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return false
	}
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has gone
		}
		// proc_pid_stat(5): PID (NAME) STATE PARENT GROUP; a name may have anything in it.
		f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(f) > 2 && f[0] != "Z" && f[0] != "X" && f[2] == strconv.Itoa(group) {
			return true
		}
	}
	return false
}

// await waits for the end of the process, ends what it left, and returns its exit
// code as a shell does: 128 and more for a signal.
func await(cmd *exec.Cmd) int {
	for unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	// A killed process goes in its own time, and nobody is told of a grandchild's end.
	for kill(cmd.Process.Pid); lives(cmd.Process.Pid); time.Sleep(time.Millisecond) {
	}
	cmd.Wait() //nolint:errcheck // the state says it
	if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return 128 + int(s.Signal())
	}
	return cmd.ProcessState.ExitCode()
}
