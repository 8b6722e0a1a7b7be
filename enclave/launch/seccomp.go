package launch

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The filter admits the system calls of x86-64 that were looked at, and denies
// those of them that containers' default profile (moby's, profiles/seccomp)
// keeps for privileges: what no program needs that computes on files, and where
// the kernel has been broken out of. A call that is newer than the table does
// not exist for the application, whatever it does.

// lastOld ends the calls before the numbers were made the same everywhere, and
// firstNew to lastNew are those since, as of Linux 6.10
// (arch/x86/entry/syscalls/syscall_64.tbl).
const (
	lastOld  = unix.SYS_RSEQ
	firstNew = unix.SYS_PIDFD_SEND_SIGNAL
	lastNew  = unix.SYS_MSEAL
)

var denied = [...]uint32{
	// Other processes.
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KCMP, unix.SYS_PIDFD_GETFD,
	unix.SYS_PERF_EVENT_OPEN, unix.SYS_LOOKUP_DCOOKIE,
	// Namespaces, mounts, and files by other ways than their names.
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_CHROOT, unix.SYS_PIVOT_ROOT, unix.SYS_MOUNT, unix.SYS_UMOUNT2,
	unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
	unix.SYS_MOUNT_SETATTR, unix.SYS_STATMOUNT, unix.SYS_LISTMOUNT, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_FANOTIFY_INIT,
	unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_SYSFS, unix.SYS_USTAT,
	// Keyrings, which know no namespaces.
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
	// Programs and queues in the kernel, and faults that one's own code decides.
	unix.SYS_BPF, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	// The machine.
	unix.SYS_REBOOT, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_CREATE_MODULE, unix.SYS_INIT_MODULE,
	unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_QUERY_MODULE, unix.SYS_GET_KERNEL_SYMS, unix.SYS_IOPL,
	unix.SYS_IOPERM, unix.SYS_MODIFY_LDT, unix.SYS_SYSLOG, unix.SYS_ACCT, unix.SYS_VHANGUP, unix.SYS_SETTIMEOFDAY,
	unix.SYS_CLOCK_SETTIME, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_NFSSERVCTL, unix.SYS__SYSCTL, unix.SYS_USELIB,
	// Where memory is.
	unix.SYS_MBIND, unix.SYS_SET_MEMPOLICY, unix.SYS_GET_MEMPOLICY, unix.SYS_SET_MEMPOLICY_HOME_NODE, unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES,
}

// newNamespaces are the flags of clone(2) that make namespaces.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWTIME

// Offsets in struct seccomp_data of linux/seccomp.h; of an argument, its lower
// half, which is all that the kernel looks at where these filters do.
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16
)

func argument(n uint32) uint32 { return dataArgs + 8*n }

const (
	allow      = unix.SECCOMP_RET_ALLOW
	refuse     = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	unknown    = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS) // programs try something older
	noProtocol = unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)
	kill       = unix.SECCOMP_RET_KILL_PROCESS
)

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func result(r uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: r} }

// when answers r where what was loaded compares with k as test says.
func when(test uint16, k, r uint32) []unix.SockFilter {
	return []unix.SockFilter{{Code: unix.BPF_JMP | unix.BPF_K | test, Jf: 1, K: k}, result(r)}
}

// call is what holds for the arguments of one call, which ends with an answer.
func call(number uint32, body ...unix.SockFilter) []unix.SockFilter {
	return append([]unix.SockFilter{{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ, Jf: uint8(len(body)), K: number}}, body...)
}

func join(parts ...[]unix.SockFilter) (all []unix.SockFilter) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func filter() []unix.SockFilter {
	one := func(f unix.SockFilter) []unix.SockFilter { return []unix.SockFilter{f} }
	program := join(
		one(load(dataArch)), // the other ways into the kernel have other numbers
		one(unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ, Jt: 1, K: unix.AUDIT_ARCH_X86_64}), one(result(kill)),
		one(load(dataNumber)),
		when(unix.BPF_JGT, lastNew, unknown), // x32 has a bit above it
		one(unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JGE, Jt: 2, K: firstNew}),
		when(unix.BPF_JGT, lastOld, unknown),
		// Its flags are in memory, where a filter cannot look; the C libraries then
		// use clone.
		when(unix.BPF_JEQ, unix.SYS_CLONE3, unknown),
	)
	for _, number := range denied {
		program = append(program, when(unix.BPF_JEQ, number, refuse)...)
	}
	return join(program,
		call(unix.SYS_CLONE, join(one(load(argument(0))), when(unix.BPF_JSET, newNamespaces, refuse), one(result(allow)))...),
		call(unix.SYS_SOCKET, sockets()...),
		// What types into a terminal as if at its keyboard.
		call(unix.SYS_IOCTL, join(one(load(argument(1))), when(unix.BPF_JEQ, unix.TIOCSTI, refuse), when(unix.BPF_JEQ, unix.TIOCLINUX, refuse), one(result(allow)))...),
		call(unix.SYS_PERSONALITY, personalities()...),
		one(result(allow)))
}

// sockets are those that the network namespace holds, and of netlink the
// protocol that says which addresses one has. A vsock leads out of the machine
// whatever the namespace.
func sockets() []unix.SockFilter {
	program := []unix.SockFilter{load(argument(0))}
	for _, family := range []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6} {
		program = append(program, when(unix.BPF_JEQ, family, allow)...)
	}
	return join(program,
		[]unix.SockFilter{{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ, Jt: 1, K: unix.AF_NETLINK}, result(noProtocol), load(argument(2))},
		when(unix.BPF_JEQ, unix.NETLINK_ROUTE, allow), []unix.SockFilter{result(noProtocol)})
}

// personalities are the ones of ordinary programs, with and without 2.6's
// version number (moby's profile), and asking.
func personalities() []unix.SockFilter {
	program := []unix.SockFilter{load(argument(0))}
	for _, p := range []uint32{0, 8, 0x20000, 0x20008, 0xffffffff} {
		program = append(program, when(unix.BPF_JEQ, p, allow)...)
	}
	return append(program, result(refuse))
}

// enterFilter filters the calls of this thread and of what it starts.
func enterFilter() error {
	program := filter()
	p := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&p)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return fmt.Errorf("filtering system calls: %w", errno)
	}
	return nil
}
