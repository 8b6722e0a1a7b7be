package host

import (
	"os"
	"os/exec"
	"syscall"

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

// await waits for the end of the process, ends what it left, and returns its exit
// code as a shell does: 128 and more for a signal.
func await(cmd *exec.Cmd) int {
	for unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	kill(cmd.Process.Pid)
	cmd.Wait() //nolint:errcheck // the state says it
	if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return 128 + int(s.Signal())
	}
	return cmd.ProcessState.ExitCode()
}
