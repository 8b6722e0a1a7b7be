package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hostile is this test binary as another program: a runtime, the hostile
// application, or a part of one. It does not return when it is one of them.
func hostile() {
	if len(os.Args) < 2 {
		return
	}
	if is, err := inKernel(os.Args[1]); is {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	switch os.Args[1] {
	case "outside", "attempt":
		attemptAll(os.Args[2], os.Args[3])
	case "inside":
		launchHostile(os.Args[3])
	case "networked":
		launchNetworked(os.Args[2])
	case "sealed":
		attemptSealed()
	case "caller":
		callAndServe()
	case "wait":
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "who":
		fmt.Print(os.Geteuid())
	case "true":
	default:
		return
	}
	os.Exit(0)
}

// launchHostile is the runtime of an application that wants out.
func launchHostile(told string) {
	var s scene
	if err := json.Unmarshal([]byte(told), &s); err != nil {
		panic(err)
	}
	exit, err := Run(context.Background(), Application{Command: []string{filepath.Join(s.Input, "hostile"), "attempt", "", told},
		UID: nobodyElse, GID: nobodyElse, Mounts: []Mount{{Path: s.Input}}, Stdout: os.Stdout, Stderr: os.Stderr, Grace: time.Second,
		// A proxy that the runtime serves is there, and is no way around itself.
		Network: func(n *Network) error { _, err := n.Listen(context.Background(), "127.0.0.1:3128"); return err }})
	if err != nil || exit != 0 {
		fmt.Fprintln(os.Stderr, "the hostile application: exit", exit, err)
		os.Exit(1)
	}
}

// Who an attempt is shown to work for outside; "" where it would do harm there
// or the machine has not got what it takes.
const (
	asUser = "user"
	asRoot = "root"
)

type attempt struct {
	outside string
	do      func(s scene) error // nil: it managed
}

func attemptAll(who, told string) {
	var s scene
	if err := json.Unmarshal([]byte(told), &s); err != nil {
		panic(err)
	}
	for name, a := range attempts {
		if who != "" && a.outside != who {
			continue
		}
		if err := a.do(s); err != nil {
			fmt.Printf("%s\t%s\n", name, strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Printf("%s\tmanaged\n", name)
		}
	}
}

var attempts = map[string]attempt{
	"TCP":                   {asUser, func(s scene) error { return dial("tcp", s.TCP) }},
	"UDP":                   {asUser, echoed},
	"metadata address":      {"", func(scene) error { return dial("tcp", "169.254.169.254:80") }},
	"ICMP":                  {asRoot, socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)},
	"raw IPv6":              {asRoot, socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_UDP)},
	"packets":               {asRoot, socket(unix.AF_PACKET, unix.SOCK_RAW, 0)},
	"vsock":                 {asUser, socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)},
	"netlink of the kernel": {asUser, socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT)},
	"kernel's ciphers":      {"", socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)},
	"unix socket":           {asUser, func(s scene) error { return dial("unix", s.Unix) }},
	"abstract socket":       {asUser, func(s scene) error { return dial("unix", s.Abstract) }},
	"shared memory":         {asUser, func(s scene) error { _, err := unix.SysvShmGet(s.SharedMemory, 4096, 0); return err }},

	"others in /proc":        {asUser, others},
	"environment of another": {asUser, func(s scene) error { return read(fmt.Sprintf("/proc/%d/environ", s.Victim)) }},
	"memory of another":      {asUser, func(s scene) error { return open(fmt.Sprintf("/proc/%d/mem", s.Victim), os.O_RDWR) }},
	"environment of init":    {"", func(scene) error { return read("/proc/1/environ") }},
	"memory of init":         {"", func(scene) error { return open("/proc/1/mem", os.O_RDONLY) }},
	"root of init":           {"", func(scene) error { _, err := os.ReadDir("/proc/1/root/"); return err }},
	"signal to another":      {asUser, func(s scene) error { return unix.Kill(s.Victim, 0) }},
	"signal to init":         {asRoot, func(scene) error { return unix.Kill(1, 0) }},
	"ptrace":                 {asUser, traced},
	"process_vm_readv":       {asUser, readSelf},
	"pidfd_getfd":            {asUser, stolen},
	"kcmp":                   {asUser, call2(unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(os.Getpid()))},

	"environment of the runtime": {asUser, inherited},
	"descriptor of the runtime":  {asUser, descriptor},
	"socket of the runtime":      {asUser, connection},
	"file of the runtime":        {asRoot, func(s scene) error { return read(s.Secret) }},
	"names beside the mounts":    {asUser, func(s scene) error { _, err := os.Stat(s.Scratch); return err }},
	"core files":                 {asUser, func(scene) error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1}) }},
	"core pattern":               {asRoot, func(scene) error { return open("/proc/sys/kernel/core_pattern", os.O_WRONLY) }},
	"sysrq":                      {"", sysrq},
	"keys in /proc":              {asUser, func(scene) error { return content("/proc/key-users") }},
	"kernel's configuration":     {asUser, func(scene) error { return read("/sys/kernel/uevent_seqnum") }},

	"writing to an input":    {asUser, func(s scene) error { return create(filepath.Join(s.Input, "new")) }},
	"changing an input":      {asRoot, func(s scene) error { return os.Chmod(filepath.Join(s.Input, "hostile"), 0o755) }},
	"writing to the root":    {"", func(scene) error { return create("/escape") }},
	"setuid program":         {asUser, setuid},
	"mounting":               {asRoot, mounted},
	"mounting anew":          {asRoot, func(scene) error { return closing(unix.Fsopen("tmpfs", 0)) }},
	"unmounting an input":    {"", func(s scene) error { return unix.Unmount(s.Input, unix.MNT_DETACH) }},
	"making a root writable": {"", func(scene) error { return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, "") }},
	"chroot":                 {asRoot, func(scene) error { return unix.Chroot("/") }},
	"device node":            {asRoot, node},
	"open_by_handle_at":      {asRoot, handle},
	"/dev/fuse":              {asUser, func(scene) error { return open("/dev/fuse", os.O_RDWR) }},
	"/dev/kmsg":              {asRoot, func(scene) error { return open("/dev/kmsg", os.O_RDONLY) }},
	"/dev/sev-guest":         {"", func(scene) error { return open("/dev/sev-guest", os.O_RDWR) }},
	"/dev/vda":               {"", func(scene) error { return open("/dev/vda", os.O_RDONLY) }},

	"user namespace":    {asUser, cloned(unix.CLONE_NEWUSER)},
	"mount namespace":   {asRoot, cloned(unix.CLONE_NEWNS)},
	"network namespace": {asRoot, cloned(unix.CLONE_NEWNET)},
	"unshare":           {asRoot, func(scene) error { return unix.Unshare(unix.CLONE_NEWUTS) }},
	"setns":             {asRoot, entered},
	"control group":     {asRoot, regrouped},
	"host name":         {asRoot, renamed},

	"bpf":            {asRoot, bpf},
	"perf":           {asRoot, perf},
	"keyctl":         {asUser, call2(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(3))}, // KEY_SPEC_USER_KEYRING is -4
	"add_key":        {asUser, addKey},
	"io_uring":       {asUser, ring},
	"userfaultfd":    {asUser, func(scene) error { return fdCall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|1) }}, // UFFD_USER_MODE_ONLY
	"no randomness":  {asUser, call2(unix.SYS_PERSONALITY, 0x0040000, 0)},                                   // ADDR_NO_RANDOMIZE
	"clone3":         {asUser, clone3},
	"syslog":         {asRoot, call2(unix.SYS_SYSLOG, 10, 0)}, // SYSLOG_ACTION_SIZE_BUFFER
	"swapoff":        {"", call2(unix.SYS_SWAPOFF, 0, 0)},
	"another number": {"", call2(0x40000000|unix.SYS_GETPID, 0, 0)}, // x32
}

// patience bounds what outside is answered, however busy the machine is; inside it
// is refused at once.
const patience = time.Minute

func dial(network, address string) error {
	c, err := net.DialTimeout(network, address, patience)
	if err == nil {
		c.Close()
	}
	return err
}

func echoed(s scene) error {
	c, err := net.Dial("udp", s.UDP)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, err = c.Read(make([]byte, 1))
	return err
}

func socket(family, kind, protocol int) func(scene) error {
	return func(scene) error { return closing(unix.Socket(family, kind, protocol)) }
}

func closing(fd int, err error) error {
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func call2(number, a, b uintptr) func(scene) error {
	return func(scene) error {
		if _, _, errno := unix.Syscall(number, a, b, 0); errno != 0 {
			return errno
		}
		return nil
	}
}

func fdCall(number, a uintptr) error {
	fd, _, errno := unix.Syscall(number, a, 0, 0)
	if errno != 0 {
		return errno
	}
	return unix.Close(int(fd))
}

func open(path string, mode int) error {
	f, err := os.OpenFile(path, mode, 0)
	if err == nil {
		f.Close()
	}
	return err
}

func read(path string) error { _, err := os.ReadFile(path); return err }

// content is read where what is masked reads as empty.
func content(path string) error {
	b, err := os.ReadFile(path)
	if err == nil && len(b) == 0 {
		return errors.New("it is empty")
	}
	return err
}

func create(path string) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	return os.Remove(path)
}

// others looks for processes that are not this one.
func others(scene) error {
	list, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range list {
		if strings.Trim(e.Name(), "0123456789") == "" && e.Name() != fmt.Sprint(os.Getpid()) {
			return nil
		}
	}
	return errors.New("there are none")
}

func traced(s scene) error {
	child := exec.Command("/proc/self/exe", "wait")
	in, err := child.StdinPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	defer func() { in.Close(); _ = child.Wait() }()
	// Of a child: where that is refused, so is it of anybody.
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(child.Process.Pid), 0, 0, 0, 0); errno != 0 {
		return errno
	}
	_, _, _ = unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(child.Process.Pid), 0, 0, 0, 0)
	return nil
}

var known = [8]byte{'k', 'n', 'o', 'w', 'n'}

// readSelf reads what every process may read, by the call that reads others.
func readSelf(scene) error {
	var got [8]byte
	local := []unix.Iovec{{Base: &got[0], Len: 8}}
	_, err := unix.ProcessVMReadv(os.Getpid(), local, []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&known)), Len: 8}}, 0)
	return err
}

func stolen(scene) error {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return closing(unix.PidfdGetfd(fd, 0, 0))
}

func inherited(scene) error {
	if os.Getenv("SECRET_OF_THE_RUNTIME") == "" {
		return errors.New("it is not set")
	}
	return nil
}

func descriptor(scene) error {
	for fd := 3; fd < 64; fd++ {
		target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err == nil && strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "/proc/") {
			return nil
		}
	}
	return errors.New("none is open")
}

func connection(scene) error {
	for fd := 3; fd < 64; fd++ {
		if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err == nil && kind == unix.SOCK_SEQPACKET {
			return nil
		}
	}
	return errors.New("none is open")
}

func setuid(s scene) error {
	out, err := exec.Command(filepath.Join(s.Input, "setuid"), "who").Output()
	if err == nil && string(out) != "0" {
		err = fmt.Errorf("it runs as %s", out)
	}
	return err
}

func sysrq(scene) error {
	info, err := os.Stat("/proc/sysrq-trigger")
	if err == nil && info.Mode().IsRegular() {
		err = open("/proc/sysrq-trigger", os.O_WRONLY)
	} else if err == nil {
		err = errors.New("it is something else")
	}
	return err
}

func mounted(s scene) error {
	dir, err := os.MkdirTemp("", "escape")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		return err
	}
	return unix.Unmount(dir, 0)
}

func node(scene) error {
	dir, err := os.MkdirTemp("", "escape")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "null")
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		return err
	}
	return open(path, os.O_RDWR)
}

func handle(scene) error {
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/", 0)
	if err != nil {
		return err
	}
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return closing(unix.OpenByHandleAt(fd, h, unix.O_RDONLY))
}

func cloned(flags uintptr) func(scene) error {
	return func(scene) error {
		cmd := exec.Command("/proc/self/exe", "true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		return cmd.Run()
	}
}

func entered(scene) error {
	fd, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Setns(fd, unix.CLONE_NEWNET)
}

// regrouped makes a control group, as what leaves one needs.
func regrouped(scene) error {
	err := errors.New("no control groups are mounted")
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, there := os.Stat(filepath.Join(root, "cgroup.procs")); there == nil {
			dir := filepath.Join(root, fmt.Sprint("escape-", os.Getpid()))
			if err = os.Mkdir(dir, 0o755); err == nil {
				return unix.Rmdir(dir)
			}
		}
	}
	return err
}

func renamed(scene) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	return unix.Sethostname([]byte(name))
}

func bpf(scene) error {
	attr := [16]uint32{2, 4, 4, 1} // BPF_MAP_TYPE_ARRAY, sizes of key and value, entries
	fd, _, errno := unix.Syscall(unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return errno
	}
	return unix.Close(int(fd))
}

func perf(scene) error {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK}
	attr.Size = uint32(unsafe.Sizeof(attr))
	return closing(unix.PerfEventOpen(&attr, 0, -1, -1, 0))
}

func addKey(scene) error {
	_, err := unix.AddKey("user", "escape", []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
	return err
}

func ring(scene) error {
	var params [120]byte // struct io_uring_params
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return errno
	}
	return unix.Close(int(fd))
}

// clone3 asks for nothing: where the call is known it says that that is wrong.
func clone3(scene) error {
	_, _, errno := unix.Syscall(unix.SYS_CLONE3, 0, 0, 0)
	if slices.Contains([]syscall.Errno{unix.EINVAL, unix.EFAULT}, errno) {
		return nil
	}
	return errno
}
