package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socketRequest is what the runtime asks of the init, with the socket to answer
// on: one of the two fields.
type socketRequest struct {
	Listen string `json:"listen,omitempty"` // address and port
	Family int    `json:"family,omitempty"` // of a socket that is not connected
}

// socketReply comes with the socket, or says why there is none.
type socketReply struct {
	Error string `json:"error,omitempty"`
}

// maxSocketMessage bytes are more than either of them takes.
const maxSocketMessage = 1024

// socketPair is two ends of a connection that keeps messages apart: the
// runtime's, and one that can be given away.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making a pair of sockets: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "init's end")
	ours, err = unixConn(os.NewFile(uintptr(fds[0]), "runtime's end"))
	if err != nil {
		theirs.Close()
	}
	return ours, theirs, err
}

// unixConn makes a connection of a file, which it closes.
func unixConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("%s is not a unix socket", f.Name())
	}
	return u, nil
}

// receive reads a message, and returns the file that came with it, or nil.
func receive(c *net.UnixConn, message any) (*os.File, error) {
	b, rights := make([]byte, maxSocketMessage), make([]byte, unix.CmsgSpace(4))
	n, rn, _, _, err := c.ReadMsgUnix(b, rights)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errors.New("the other end is gone")
	}
	var file *os.File
	if messages, err := unix.ParseSocketControlMessage(rights[:rn]); err == nil && len(messages) == 1 {
		if fds, err := unix.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
			file = os.NewFile(uintptr(fds[0]), "socket")
		}
	}
	return file, json.Unmarshal(b[:n], message)
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}

// serveSockets is the init's side, which is not waited for: it makes what the
// runtime asks for until that has no more to ask.
func serveSockets() (requests *net.UnixConn, err error) {
	if requests, err = unixConn(os.NewFile(socketsFD, "sockets")); err != nil {
		return nil, err
	}
	up := loopback()
	openPorts()
	go makeSockets(requests, up)
	return requests, nil
}

// makeSockets waits for nobody: an answer finds room in a connection of its own.
// What is wrong with the loopback device is said to who asks for it.
func makeSockets(requests *net.UnixConn, up error) {
	for {
		var r socketRequest
		reply, err := receive(requests, &r)
		if reply == nil {
			return
		}
		if err == nil {
			err = up
		}
		fd := -1
		if err == nil {
			fd, err = r.make()
		}
		answer(reply, fd, err)
	}
}

func answer(reply *os.File, fd int, err error) {
	defer reply.Close()
	var r socketReply
	var rights []byte
	if err != nil {
		r.Error = err.Error()
	} else {
		defer unix.Close(fd)
		rights = unix.UnixRights(fd)
	}
	raw, err := json.Marshal(r)
	if err == nil {
		// Whoever asked may have given up.
		_ = unix.Sendmsg(int(reply.Fd()), raw, rights, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	}
}

// make makes the socket. One that is to be connected does not block: how long
// that may take is for the runtime to say.
func (r socketRequest) make() (fd int, err error) {
	if r.Listen == "" {
		return unix.Socket(r.Family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	}
	at, err := parseSocket(r.Listen)
	if err != nil {
		return -1, err
	}
	fd, err = unix.Socket(family(at), unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, at), unix.Listen(fd, unix.SOMAXCONN)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func parseSocket(address string) (unix.Sockaddr, error) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	if ip := a.Addr().Unmap(); ip.Is4() {
		return &unix.SockaddrInet4{Addr: ip.As4(), Port: int(a.Port())}, nil
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}, nil
}

func family(a unix.Sockaddr) int {
	if _, ok := a.(*unix.SockaddrInet4); ok {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// loopback brings the namespace's one device up, netdevice(7).
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request := struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte // the rest of struct ifreq
	}{name: [unix.IFNAMSIZ]byte{'l', 'o'}, flags: unix.IFF_UP}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("bringing up the application's loopback device, which takes CAP_NET_ADMIN: %w", errno)
	}
	return nil
}

// openPorts lets an application that is not root listen where servers do: the
// ports below 1024 are its own here. In a container whose settings are read-only
// it listens above them.
func openPorts() {
	_ = os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
}
