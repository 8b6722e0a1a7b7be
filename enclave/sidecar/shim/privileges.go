//go:build linux

package shim

import (
	"fmt"
	"os"

	"cloister/internal/fault"

	"golang.org/x/sys/unix"
)

// devices are those through which a process gets attestation reports; the
// platform gives them to every container of a group. An application that had one
// could ask for a report of its own and with it for other parties' keys.
var devices = [...]string{"/dev/sev-guest", "/dev/sev", "/dev/tpm0", "/dev/tpmrm0"}

// checkPrivileges refuses a container whose application would be more than an
// ordinary user. That it cannot become more is seen to when it is started.
func checkPrivileges() error {
	if os.Getuid() == 0 || os.Geteuid() == 0 || os.Getgid() == 0 || os.Getegid() == 0 {
		return fault.Errorf(fault.Refused, "give the container a user and a group other than root", "the application's container runs as %d:%d", os.Getuid(), os.Getgid())
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData // 64 bits, as that version has them
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return fmt.Errorf("reading capabilities: %w", err)
	}
	if caps != [2]unix.CapUserData{} {
		return fault.Errorf(fault.Refused, "drop all of the container's capabilities", "the application's container has capabilities: %+v", caps)
	}
	return checkDevices(devices[:])
}

func checkDevices(devices []string) error {
	for _, device := range devices {
		for _, mode := range []int{unix.O_RDWR, unix.O_RDONLY} {
			if fd, err := unix.Open(device, mode|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err == nil {
				unix.Close(fd)
				return fault.Errorf(fault.Refused, "keep the device from the application's user", "the application could open %s and attest as the clean room", device)
			}
		}
	}
	return nil
}
