package launch

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSeal: a sealed program computes on, with threads and memory, and can do
// nothing else: each thing that it tries worked before.
func TestSeal(t *testing.T) {
	cmd := exec.Command(os.Args[0], "sealed")
	cmd.Stdin = strings.NewReader("input")
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "computed" {
		t.Errorf("%v: %s", err, out)
	}
}

var sealedAttempts = map[string]func() error{
	"open":    func() error { return open("/dev/null", os.O_RDONLY) },
	"stat":    func() error { _, err := os.Stat("/"); return err },
	"socket":  func() error { return closing(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)) },
	"listen":  func() error { l, err := net.Listen("tcp", "127.0.0.1:0"); closeListener(l); return err },
	"start":   func() error { return exec.Command("/proc/self/exe", "true").Run() },
	"signal":  func() error { return unix.Kill(os.Getppid(), 0) },
	"limits":  func() error { var l unix.Rlimit; return unix.Getrlimit(unix.RLIMIT_NOFILE, &l) },
	"message": func() error { _, _, err := unix.Recvfrom(0, nil, unix.MSG_DONTWAIT); return notSocket(err) },
}

func closeListener(l net.Listener) {
	if l != nil {
		l.Close()
	}
}

// notSocket is what the call says that was let through.
func notSocket(err error) error {
	if errors.Is(err, unix.ENOTSOCK) {
		return nil
	}
	return err
}

func attemptSealed() {
	fail := func(format string, args ...any) { fmt.Printf(format+"\n", args...); os.Exit(1) }
	for name, try := range sealedAttempts {
		if err := try(); err != nil {
			fail("before: %s: %v", name, err)
		}
	}
	var threads sync.WaitGroup
	sealed := make(chan struct{})
	for range 8 { // threads that are there before, and others after
		threads.Go(func() {
			runtime.LockOSThread()
			<-sealed
			for name, try := range sealedAttempts {
				if err := try(); !errors.Is(err, unix.EPERM) {
					fail("after: %s: %v", name, err)
				}
			}
		})
	}
	if err := errors.Join(noNewPrivileges(), Seal()); err != nil {
		fail("%v", err)
	}
	close(sealed)
	threads.Wait()
	b := make([]byte, 5)
	if _, err := os.Stdin.Read(b); err != nil || string(b) != "input" {
		fail("reading: %q, %v", b, err)
	}
	fmt.Print("computed")
}
