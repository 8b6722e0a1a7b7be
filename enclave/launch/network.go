package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cloister/internal/fault"
)

// Network is the inside of the application's network namespace, which has no
// way out: what the runtime serves at its loopback addresses is all that the
// application reaches, and what the application listens on there only the
// runtime reaches. A socket belongs for ever to the namespace that it was made
// in, so the init, which is inside, makes them, and the runtime uses them. A
// Network is of one Run: it ends, with its listeners, when the application has
// ended. Its methods may be called by many at once.
type Network struct {
	init *net.UnixConn

	mu        sync.Mutex // guards what follows
	listeners []net.Listener
	ended     bool
}

// Listen listens at an address and TCP port of the namespace, such as
// "127.0.0.1:8080"; the application cannot take the port then. Port 0 is one
// that is free. Run closes the listener when the application has ended.
func (n *Network) Listen(ctx context.Context, address string) (net.Listener, error) {
	f, err := n.socket(ctx, socketRequest{Listen: address})
	if err != nil {
		return nil, fmt.Errorf("listening at %s in the application's network: %w", address, err)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("listening at %s in the application's network: %w", address, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		l.Close()
		return nil, errNetworkEnded
	}
	n.listeners = append(n.listeners, l)
	return l, nil
}

// DialContext connects to an address and TCP port of the namespace, such as
// "127.0.0.1:8080": network is tcp, tcp4 or tcp6, and nothing resolves names
// there. Where the application does not listen the error is ECONNREFUSED.
func (n *Network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := parseSocket(address)
	if err != nil || !slices.Contains([]string{"tcp", "tcp4", "tcp6"}, network) {
		return nil, fault.Errorf(fault.Usage, "give an address and a TCP port", "%s %s in the application's network: %v", network, address, err)
	}
	f, err := n.socket(ctx, socketRequest{Family: family(to)})
	if err != nil {
		return nil, fmt.Errorf("dialling %s in the application's network: %w", address, err)
	}
	defer f.Close()
	if err := connect(ctx, f, to); err != nil {
		return nil, fmt.Errorf("dialling %s in the application's network: %w", address, err)
	}
	return net.FileConn(f)
}

var errNetworkEnded = errors.New("the application has ended, and its network with it")

// socket has the init make a socket. A request carries the socket that is to be
// answered on, so that nobody waits for another's answer.
func (n *Network) socket(ctx context.Context, r socketRequest) (*os.File, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	defer theirs.Close()
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if _, _, err := n.init.WriteMsgUnix(raw, unix.UnixRights(int(theirs.Fd())), nil); err != nil {
		return nil, errNetworkEnded
	}
	theirs.Close()
	stop := context.AfterFunc(ctx, func() { _ = ours.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var reply socketReply
	f, err := receive(ours, &reply)
	switch {
	case ctx.Err() != nil:
		closeFile(f)
		return nil, context.Cause(ctx)
	case err != nil:
		closeFile(f)
		return nil, errNetworkEnded
	case f == nil:
		return nil, errors.New(reply.Error)
	}
	return f, nil
}

// connect connects a socket that does not block.
func connect(ctx context.Context, f *os.File, to unix.Sockaddr) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	var result error
	begun := false
	err = raw.Write(func(fd uintptr) (done bool) {
		if !begun {
			begun = true
			result = unix.Connect(int(fd), to)
			return result != unix.EINPROGRESS
		}
		result = connected(int(fd))
		return result != unix.ENOTCONN
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	return result
}

// connected is what came of a connect(2) that was in progress; ENOTCONN where it
// still is: a socket that was never connected is reported ready too.
func connected(fd int) error {
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if errno != 0 {
		return unix.Errno(errno)
	}
	_, err = unix.Getpeername(fd)
	return err
}

// end ends what came of it.
func (n *Network) end() {
	n.init.Close()
	n.mu.Lock()
	n.ended = true
	listeners := n.listeners
	n.mu.Unlock()
	for _, l := range listeners {
		l.Close()
	}
}
