package azurite

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel end the child with us, even when we are killed.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
