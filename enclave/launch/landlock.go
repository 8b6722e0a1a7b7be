package launch

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// landlockVersion is the kernel's, 0 where it has none.
func landlockVersion() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// The rights of Landlock that change something, by the version that knows them
// (the kernel's userspace-api/landlock). Reading is decided by the view.
const (
	landlockMake = unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	landlockDevices = unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK
)

func landlockRights(version int) (write, change uint64) {
	write, change = unix.LANDLOCK_ACCESS_FS_WRITE_FILE, landlockMake
	if version >= 2 {
		change |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if version >= 3 {
		write |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	return write, change
}

// landlock keeps this thread, and what it starts, from changing anything but
// what is below writable, from the ioctls of devices, and from signals beyond
// what it starts, as far as the kernel knows these. It is a second lock on what
// the view and the namespaces keep already, so a kernel without it is told in
// the log and not refused.
func landlock(writable []string) error {
	version := landlockVersion()
	if version == 0 {
		return nil
	}
	write, change := landlockRights(version)
	attr := unix.LandlockRulesetAttr{Handled_access_fs: write | change | landlockDevices}
	if version >= 5 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if version >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL
	}
	rules := map[string]uint64{"/dev": write, "/proc": write} // what the kernel lets anybody write of them
	for _, dir := range writable {
		rules[dir] = write | change
	}
	return enterRuleset(attr, rules)
}

// scopeSockets keeps this thread, and what it starts, from abstract sockets that
// others opened: containers of one pod share a network, and with it those.
func scopeSockets() error {
	if landlockVersion() < 6 {
		return nil
	}
	return enterRuleset(unix.LandlockRulesetAttr{Scoped: unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET}, nil)
}

// enterRuleset restricts this thread, which has no_new_privs, to a ruleset.
func enterRuleset(attr unix.LandlockRulesetAttr, rules map[string]uint64) error {
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return fmt.Errorf("making a Landlock ruleset: %w", errno)
	}
	defer unix.Close(int(ruleset))
	for dir, rights := range rules {
		if err := landlockAllow(int(ruleset), dir, rights); err != nil {
			return err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); errno != 0 {
		return fmt.Errorf("entering the Landlock ruleset: %w", errno)
	}
	return nil
}

// landlockAllow adds a rule; a directory that is not there needs none.
func landlockAllow(ruleset int, dir string, rights uint64) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening %s: %w", dir, err)
	}
	defer unix.Close(fd)
	attr := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("allowing writes below %s: %w", dir, errno)
	}
	return nil
}
