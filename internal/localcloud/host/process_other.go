//go:build !linux

package host

import (
	"os"
	"os/exec"
	"syscall"
)

// The runtime is Linux's; elsewhere its program does not start.

func attributes() *syscall.SysProcAttr { return nil }

func terminate(p *os.Process) { p.Kill() } //nolint:errcheck // it has ended

func kill(int) {}

func await(cmd *exec.Cmd) int {
	cmd.Wait() //nolint:errcheck // the state says it
	return cmd.ProcessState.ExitCode()
}
