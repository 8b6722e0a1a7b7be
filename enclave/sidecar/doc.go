// Package sidecar is the distributed model: the runtime in one container of a
// group, the application in another, and what the two say to each other.
//
// Life of a run: the runtime passes the gate, mounts the volumes below a
// directory that the containers share, each with the run's id as its source,
// and, when the start is recorded, opens a socket there: Door. The shim, which
// is the application container's measured first process (package shim), connects
// and is told the run and the specification; it goes on if the mounts that it sees
// are that run's. For each start of the application the runtime sends the open files
// that are its output, and the end of a conversation in which it asks for sockets in
// the application's network; when it listens there, it says go, and the shim says
// how the application ended. Then the runtime starts it again, as the specification
// says, or makes the outputs durable, records the end, and says done. If the
// connection breaks before that, the other side is gone: the shim ends the
// application and waits for the next run, the runtime ends the run as incomplete.
//
// The network is a namespace that the shim makes, so that what lets the application
// out and clients in is the runtime, as in a container of its own; a shim that may
// not make one does not start the application. Only where the parties agreed on
// network.egress unguarded is it in the pod's network.
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
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
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

	// The runtime's, for each start: start the application, once it is told to go.
	// Files are sent with it: standard output, standard error and, unless the
	// application is in the pod's network, the sockets of launch.NewNetwork.
	Start *Start `json:"start,omitempty"`
	Go    bool   `json:"go,omitempty"`

	// The shim's: the application's exit code, or why it was not started.
	Exit    *int   `json:"exit,omitempty"`
	Refused string `json:"refused,omitempty"`

	// The runtime's: end the application, killing it after Grace; or, the run is
	// recorded complete.
	End   bool          `json:"end,omitempty"`
	Grace time.Duration `json:"grace,omitempty"` // nanoseconds
	Done  bool          `json:"done,omitempty"`

	// FileCount is set by Send, and Files by Receive, whose caller closes them.
	FileCount int        `json:"files,omitempty"`
	Files     []*os.File `json:"-"`
}

// Start is what a start of the application is told beside the measured command line.
type Start struct {
	// Environment, NAME=VALUE, holds as far as the specification's does not say
	// otherwise: where the way out is.
	Environment []string `json:"environment,omitempty"`
}

// maxMessage bounds a message, in bytes: a peer is a stranger.
const maxMessage = 4 << 10

// maxFiles bounds what comes with a message: those of a start.
const maxFiles = 3

// Conn is a connection between runtime and shim. One goroutine may send while
// another receives.
type Conn struct {
	net.Conn
	lines *bufio.Reader
	files *carried // nil: files are not taken
}

// NewConn speaks over c, and takes no files: the runtime is given none.
func NewConn(c net.Conn) *Conn { return &Conn{Conn: c, lines: bufio.NewReaderSize(c, maxMessage)} }

// NewShimConn speaks over c for the shim, which is given files.
func NewShimConn(c *net.UnixConn) *Conn {
	files := &carried{conn: c}
	return &Conn{Conn: c, lines: bufio.NewReaderSize(files, maxMessage), files: files}
}

// Send writes a message, and with it files, which stay the caller's.
func (c *Conn) Send(m Message, files ...*os.File) error {
	m.FileCount = len(files)
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if len(files) == 0 {
		_, err = c.Write(line)
		return err
	}
	conn, ok := c.Conn.(*net.UnixConn)
	if !ok {
		return errors.New("files can be sent over a unix socket only")
	}
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	n, _, err := conn.WriteMsgUnix(line, syscall.UnixRights(fds...), nil)
	if err == nil && n < len(line) {
		_, err = c.Write(line[n:])
	}
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
	m.Files, err = c.files.take(m.FileCount)
	return m, err
}

// Close closes the connection, and files that came and were not received.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	if c.files != nil {
		c.files.close()
	}
	return err
}

// carried reads a connection and keeps the files that come with what is read. They
// come no later than the first byte of the message that they were sent with.
type carried struct {
	conn *net.UnixConn

	mu    sync.Mutex // guards files
	files []*os.File
}

func (r *carried) Read(p []byte) (int, error) {
	rights := make([]byte, syscall.CmsgSpace(4*maxFiles))
	n, rn, _, _, err := r.conn.ReadMsgUnix(p, rights)
	if n, rn = max(n, 0), max(rn, 0); n == 0 && err == nil {
		err = io.EOF
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	messages, parsed := syscall.ParseSocketControlMessage(rights[:rn])
	if parsed != nil {
		return n, errors.Join(err, parsed)
	}
	for _, m := range messages {
		fds, _ := syscall.ParseUnixRights(&m) // what is not rights is none
		for _, fd := range fds {
			r.files = append(r.files, os.NewFile(uintptr(fd), "given"))
		}
	}
	return n, err
}

func (r *carried) take(count int) (files []*os.File, err error) {
	if count == 0 {
		return nil, nil
	}
	if r == nil || count < 0 {
		return nil, errors.New("reading a message: it comes with files, which are not taken")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if count > len(r.files) {
		return nil, fmt.Errorf("reading a message: of its %d files %d came", count, len(r.files))
	}
	files, r.files = r.files[:count:count], r.files[count:]
	return files, nil
}

func (r *carried) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.files {
		f.Close()
	}
	r.files = nil
}
