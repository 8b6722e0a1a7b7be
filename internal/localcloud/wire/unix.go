package wire

import (
	"context"
	"net"
	"os"
	"time"

	"cloister/internal/fault"
)

// maxSocketPath is the room for a Unix socket's path on every system we build
// for: 104 bytes with the final zero on macOS, 108 on Linux.
const maxSocketPath = 103

// ListenUnix listens on a Unix socket, mode 0600, and takes the place of one
// that nobody answers. A live one is fault.Conflict, a path too long fault.Usage.
func ListenUnix(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fault.Errorf(fault.Usage, "choose a shorter directory", "the socket path %q is longer than %d bytes", path, maxSocketPath)
	}
	if _, err := os.Lstat(path); err == nil {
		if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
			conn.Close()
			return nil, fault.Errorf(fault.Conflict, "stop it, or choose another directory", "a running process answers on %s", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, err
	}
	return listener, nil
}
