package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloister/internal/fault"
)

// What the runtime serves, and the application, in the application's network.
const (
	served4, served6     = "127.0.0.1:80", "[::1]:8443"
	application, nothing = "127.0.0.1:443", "127.0.0.1:9"
)

// TestNetwork: under a runtime that is root and one that is not, twice each, the
// application calls what the runtime listens on, and the runtime what the
// application does. What they do is below; it says on standard error what went
// wrong.
func TestNetwork(t *testing.T) {
	s := newScene(t)
	uids := []int{os.Getuid()}
	if os.Getuid() == 0 {
		uids = append(uids, nobodyElse)
	}
	for _, uid := range uids {
		cmd := exec.Command(s.program(), "networked", s.Input)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		if uid == os.Getuid() {
			cmd.SysProcAttr = nil
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("under a runtime of user %d: %v\n%s", uid, err, out)
		}
	}
}

// launchNetworked is the runtime.
func launchNetworked(input string) {
	for range 2 { // the second time in a namespace of its own, so the same ports are free
		var left *Network
		exit, err := Run(context.Background(), Application{Command: []string{input + "/hostile", "caller"}, UID: nobodyElse, GID: nobodyElse,
			Mounts: []Mount{{Path: input}}, Stdout: os.Stdout, Stderr: os.Stderr, Grace: time.Second,
			Network: func(n *Network) error { left = n; return serveNetworked(n) }})
		if err == nil && exit != 0 {
			err = fmt.Errorf("exit code %d", exit)
		}
		if _, gone := left.Listen(context.Background(), "127.0.0.1:0"); err == nil && !errors.Is(gone, errNetworkEnded) {
			err = fmt.Errorf("listening after the end: %v", gone)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// serveNetworked greets who calls, and calls it once it has said that it listens.
func serveNetworked(n *Network) error {
	ctx := context.Background()
	for _, address := range []string{served4, served6} {
		l, err := n.Listen(ctx, address)
		if err != nil {
			return err
		}
		if _, err := n.Listen(ctx, address); err == nil {
			return fmt.Errorf("%s is listened at twice", address)
		}
		go greet(l, n)
	}
	if _, err := n.DialContext(ctx, "tcp", nothing); !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("dialling where nobody listens: %v", err)
	}
	return nil
}

func greet(l net.Listener, n *Network) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprint(c, "hello")
		if _, err := io.ReadFull(c, make([]byte, 2)); err == nil { // it listens
			if called, err := n.DialContext(context.Background(), "tcp", application); err == nil {
				fmt.Fprint(called, "called")
				called.Close()
			}
		}
		c.Close()
	}
}

// callAndServe is the application.
func callAndServe() {
	if err := errors.Join(hear(served6), beCalled()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func hear(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	return expect(c, "hello")
}

func beCalled() error {
	l, err := net.Listen("tcp", application)
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp", served4)
	if err != nil {
		return err
	}
	if err := expect(c, "hello"); err != nil {
		return err
	}
	fmt.Fprint(c, "up")
	called, err := l.Accept()
	if err != nil {
		return err
	}
	return expect(called, "called")
}

func expect(r io.Reader, want string) error {
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		return fmt.Errorf("heard %q, %v; want %q", got, err, want)
	}
	return nil
}

// TestNetworkRefused: an application whose network cannot be served does not start.
func TestNetworkRefused(t *testing.T) {
	a := shell("exit 0")
	refusal := errors.New("no")
	a.Network = func(*Network) error { return refusal }
	if _, err := Run(t.Context(), a); !errors.Is(err, refusal) {
		t.Errorf("the application ran: %v", err)
	}
}

// TestNetworkWaitsNoLonger: what the application does not answer ends with the
// context, and what is no address is refused.
func TestNetworkWaitsNoLonger(t *testing.T) {
	a := shell("exit 0")
	a.Network = func(n *Network) error {
		ended, cancel := context.WithCancel(t.Context())
		defer cancel()
		l, err := n.Listen(ended, "127.0.0.1:0")
		if err != nil {
			return err
		}
		cancel()
		if _, err := n.Listen(ended, "127.0.0.1:0"); !errors.Is(err, context.Canceled) {
			t.Errorf("listening: %v", err)
		}
		if _, err := n.DialContext(ended, "tcp", l.Addr().String()); !errors.Is(err, context.Canceled) {
			t.Errorf("dialling: %v", err)
		}
		for _, to := range [][2]string{{"udp", "127.0.0.1:1"}, {"tcp", "localhost:1"}, {"tcp", "127.0.0.1"}} {
			if _, err := n.DialContext(t.Context(), to[0], to[1]); fault.KindOf(err) != fault.Usage {
				t.Errorf("dialling %s: %v", to, err)
			}
		}
		// Full: nobody accepts, so what is dialled beyond the queue waits.
		waits, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer stop()
		for {
			c, err := n.DialContext(waits, "tcp", l.Addr().String())
			if errors.Is(err, context.DeadlineExceeded) {
				return nil
			}
			if err != nil {
				return err
			}
			defer c.Close()
		}
	}
	if exit, err := Run(t.Context(), a); err != nil || exit != 0 {
		t.Errorf("exit code %d, %v", exit, err)
	}
}
