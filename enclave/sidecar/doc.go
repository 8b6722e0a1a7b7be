// Package sidecar is the distributed model: the runtime in one container of a
// group, the application in another, and what the two say to each other.
//
// Life of a run: the runtime passes the gate, mounts the volumes below a
// directory that the containers share, each with the run's id as its source,
// and, when the start is recorded, opens a socket there: Door. The shim, which
// is the application container's measured first process (package shim), connects
// and is told the run and the specification; it starts the application if the
// mounts that it sees are that run's, and says how it ended. Then the runtime
// makes the outputs durable, records the end, and says done. If the connection
// breaks before that, the other side is gone: the shim ends the application and
// waits for the next run, the runtime ends the run as incomplete.
//
// Who is believed: nobody by what it says. A socket can be made only by who may
// write to the shared directory, which the application's container may not; the
// mount table is the kernel's word, and only a container that may mount, which
// the container policy gives to the runtime alone, has a line of type
// fuse.cloister in it. What the shim says of the application is as good as the
// application's own word, which an exit code is anyway.
package sidecar

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"cloister/internal/fault"
)

// SocketName is the socket's in the shared directory.
const SocketName = "cloister.sock"

// Socket returns the path of the socket in the shared directory.
func Socket(dir string) string { return filepath.Join(dir, SocketName) }

// MountType is what mount tables call the runtime's mounts.
const MountType = "fuse.cloister"

// MountSource is what mount tables name as the source of a run's mounts: what
// only that run's can carry.
func MountSource(run string) string { return "cloister:" + run }

// Message is a line of JSON. Each kind sets the fields of one group.
type Message struct {
	// The runtime's first: which run it is, and under which specification.
	Run           string `json:"run,omitempty"`
	Specification string `json:"specification,omitempty"`
	// Replica is what the run is one of, told to the application. The host's word
	// for it, which each container is given, could differ between the two.
	Replica *Replica `json:"replica,omitempty"`

	// The shim's only one: the application's exit code, or why it was not started.
	Exit    *int   `json:"exit,omitempty"`
	Refused string `json:"refused,omitempty"`

	// The runtime's: end the application, killing it after Grace; or, the run is
	// recorded complete.
	End   bool          `json:"end,omitempty"`
	Grace time.Duration `json:"grace,omitempty"` // nanoseconds
	Done  bool          `json:"done,omitempty"`
}

// maxMessage bounds a message, in bytes: a peer is a stranger.
const maxMessage = 4 << 10

// Conn is a connection between runtime and shim. One goroutine may send while
// another receives.
type Conn struct {
	net.Conn
	lines *bufio.Reader
}

// NewConn speaks over c.
func NewConn(c net.Conn) *Conn { return &Conn{Conn: c, lines: bufio.NewReaderSize(c, maxMessage)} }

// Send writes a message.
func (c *Conn) Send(m Message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = c.Write(append(line, '\n'))
	return err
}

// Receive reads a message; io.EOF is the other's end.
func (c *Conn) Receive() (m Message, err error) {
	line, err := c.lines.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return m, fault.Errorf(fault.Refused, "", "a message has more than %d bytes", maxMessage)
	}
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return m, fmt.Errorf("reading a message: %w", err)
	}
	return m, nil
}
