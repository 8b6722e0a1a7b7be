package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"cloister/internal/fault"
)

// Door is where the runtime awaits the shim: one run, one shim.
type Door struct {
	dir      string
	listener *net.UnixListener
	grace    time.Duration

	mu   sync.Mutex // guards conn
	conn *Conn      // nil until the shim is there
}

// Open makes the socket in dir. It appears under its name only when it is
// listened on, so that who sees it can connect; one that a killed runtime left
// is replaced.
func Open(dir string, grace time.Duration) (*Door, error) {
	const hint = "share a directory that the runtime may write to, and the application's container only read"
	making := Socket(dir) + ".new"
	if err := os.Remove(making); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fault.Errorf(fault.Denied, hint, "making the socket for the application's container: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: making})
	if err != nil {
		return nil, fault.Errorf(fault.Denied, hint, "making the socket for the application's container: %w", err)
	}
	listener.SetUnlinkOnClose(false) // by then it has another name
	// The application's user connects; it may not write to the directory.
	err = errors.Join(os.Chmod(making, 0o666), os.Rename(making, Socket(dir)))
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("making the socket for the application's container: %w", err)
	}
	return &Door{dir: dir, listener: listener, grace: grace}, nil
}

// answerSlack is how much longer than the grace the shim has to say that the
// application has ended: it kills and reaps what is left.
const answerSlack = 5 * time.Second

// Greet waits for the shim and tells it of which run this is.
func (d *Door) Greet(ctx context.Context, greeting Message) error {
	conn, err := d.accept(ctx)
	if err != nil {
		return err
	}
	if err := conn.Send(greeting); err != nil {
		return lost(err)
	}
	return nil
}

// Launch has the application run in its container to its end and returns its exit
// code. It is started when ready, which may use the sockets among the files, has
// returned nil. When ctx ends, the shim is told to end it. started says whether the
// application was; an error is of kind Incomplete where its end is not known. The
// shim must have been greeted; the files stay the caller's, but for the last, which
// is closed where there are three: a shim that is gone has then no other end.
func (d *Door) Launch(ctx context.Context, start Start, files []*os.File, ready func() error) (exit int, started bool, err error) {
	if err := d.conn.Send(Message{Start: &start}, files...); err != nil {
		return 0, false, d.why(lost(err))
	}
	for _, f := range files[min(len(files), 2):] {
		f.Close()
	}
	if err := ready(); err != nil {
		return 0, false, d.why(err)
	}
	if err := d.conn.Send(Message{Go: true}); err != nil {
		return 0, false, d.why(lost(err))
	}
	stop := context.AfterFunc(ctx, func() {
		// If this fails the connection is broken, which Receive says.
		_ = d.conn.Send(Message{End: true, Grace: d.grace})
		_ = d.conn.SetReadDeadline(time.Now().Add(d.grace + answerSlack))
	})
	defer stop()
	return d.end()
}

// end receives what the shim says of the end.
func (d *Door) end() (exit int, started bool, err error) {
	said, err := d.conn.Receive()
	switch {
	case err != nil:
		return 0, true, lost(err)
	case said.Refused != "":
		return 0, false, fault.Errorf(fault.Refused, "see what the shim says in its container's log", "the shim does not start the application: %.1000q", said.Refused)
	case said.Exit == nil:
		return 0, true, lost(errors.New("it says neither an exit code nor a refusal"))
	}
	return *said.Exit, true, nil
}

// why is the reason that the shim gives, where what was asked of it did not come.
func (d *Door) why(err error) error {
	_ = d.conn.SetReadDeadline(time.Now().Add(answerSlack))
	if _, _, refused := d.end(); fault.KindOf(refused) == fault.Refused {
		return refused
	}
	return err
}

func lost(err error) error {
	return fault.Errorf(fault.Incomplete, "look at how the application's container ended, and run it again", "the application's container is gone: %w", err)
}

// accept waits for the shim and closes the door behind it.
func (d *Door) accept(ctx context.Context) (*Conn, error) {
	stop := context.AfterFunc(ctx, func() { d.listener.Close() })
	defer stop()
	c, err := d.listener.Accept()
	if err != nil {
		return nil, fault.Errorf(fault.Incomplete, "start the application's container, on the same shared directory",
			"no shim had come for the application: %w", errors.Join(err, context.Cause(ctx)))
	}
	d.mu.Lock()
	d.conn = NewConn(c)
	d.mu.Unlock()
	return d.conn, d.shut()
}

// shut takes the socket away.
func (d *Door) shut() error {
	d.listener.Close()
	if err := os.Remove(Socket(d.dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the socket for the application's container: %w", err)
	}
	return nil
}

// Close tells the shim, if the run came to its end, that it is done, and ends the
// connection: a shim that was not told waits for another run.
func (d *Door) Close(done bool) error {
	d.mu.Lock()
	conn := d.conn
	d.mu.Unlock()
	err := d.shut()
	if conn == nil {
		return err
	}
	if done {
		err = errors.Join(err, conn.Send(Message{Done: true}))
	}
	return errors.Join(err, conn.Close())
}
