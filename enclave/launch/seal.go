package launch

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// computing are the calls of a program that does nothing but compute on what it
// reads from files that are open: memory, threads, time, and waiting.
var computing = [...]uint32{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_CLOSE, unix.SYS_FCNTL, unix.SYS_SHUTDOWN,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_EVENTFD2,
	unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MPROTECT, unix.SYS_BRK, unix.SYS_MINCORE,
	unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_TGKILL,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL,
	unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_GETTIMEOFDAY,
	unix.SYS_GETRANDOM, unix.SYS_RSEQ, unix.SYS_SET_ROBUST_LIST, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
}

// Seal leaves this process, with all its threads, memory, time and the files that
// it has open: from now on it opens none, makes no socket and starts no program,
// whatever it comes to do. It takes no_new_privs, which an application has.
func Seal() error {
	program := sealed()
	p := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&p)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return fmt.Errorf("filtering system calls: %w", errno)
	}
	return nil
}

func sealed() []unix.SockFilter {
	one := func(f unix.SockFilter) []unix.SockFilter { return []unix.SockFilter{f} }
	program := join(
		one(load(dataArch)),
		one(unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ, Jt: 1, K: unix.AUDIT_ARCH_X86_64}), one(result(kill)),
		one(load(dataNumber)),
		when(unix.BPF_JEQ, unix.SYS_CLONE3, unknown), // as in filter
	)
	for _, number := range computing {
		program = append(program, when(unix.BPF_JEQ, number, allow)...)
	}
	return join(program,
		call(unix.SYS_CLONE, join(one(load(argument(0))), when(unix.BPF_JSET, unix.CLONE_THREAD, allow), one(result(refuse)))...),
		one(result(refuse)))
}
