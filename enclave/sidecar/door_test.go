package sidecar

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cloister/internal/fault"
)

// opened is a door in a folder of the test's.
func opened(t *testing.T) (d *Door, dir string) {
	t.Helper()
	dir = t.TempDir()
	d, err := Open(dir, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return d, dir
}

type result struct {
	exit    int
	started bool
	err     error
}

func running(ctx context.Context, d *Door) <-chan result {
	ended := make(chan result, 1)
	go func() {
		if err := d.Greet(ctx, Message{Run: "run-1", Specification: "sha256:spec"}); err != nil {
			ended <- result{err: err}
			return
		}
		exit, started, err := d.Launch(ctx, Start{Environment: []string{"A=b"}}, nil, func() error { return nil })
		ended <- result{exit, started, err}
	}()
	return ended
}

// greeted is a shim that connects and is greeted.
func greeted(t *testing.T, dir string) *Conn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: Socket(dir), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	conn := NewShimConn(c)
	t.Cleanup(func() { conn.Close() })
	if m, err := conn.Receive(); err != nil || m.Run != "run-1" || m.Specification != "sha256:spec" {
		t.Fatalf("greeted with %+v, %v", m, err)
	}
	return conn
}

// knock is one that is told to start the application too.
func knock(t *testing.T, dir string) *Conn {
	t.Helper()
	conn := greeted(t, dir)
	if m, err := conn.Receive(); err != nil || m.Start == nil || !slices.Equal(m.Start.Environment, []string{"A=b"}) {
		t.Fatalf("told %+v, %v", m, err)
	}
	if m, err := conn.Receive(); err != nil || !m.Go {
		t.Fatalf("told %+v, %v", m, err)
	}
	return conn
}

func TestDoneIsSaid(t *testing.T) {
	d, dir := opened(t)
	ended := running(t.Context(), d)
	conn := knock(t, dir)
	if _, err := os.Stat(Socket(dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a second shim could come: %v", err)
	}
	seven := 7
	if err := conn.Send(Message{Exit: &seven}); err != nil {
		t.Fatal(err)
	}
	if r := <-ended; r != (result{7, true, nil}) {
		t.Errorf("%+v", r)
	}
	if err := d.Close(true); err != nil {
		t.Error(err)
	}
	if m, err := conn.Receive(); err != nil || !m.Done {
		t.Errorf("said %+v, %v", m, err)
	}
}

func TestNotDoneIsNotSaid(t *testing.T) {
	d, dir := opened(t)
	ended := running(t.Context(), d)
	conn := knock(t, dir)
	zero := 0
	if err := conn.Send(Message{Exit: &zero}); err != nil {
		t.Fatal(err)
	}
	<-ended
	if err := d.Close(false); err != nil {
		t.Error(err)
	}
	if m, err := conn.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("said %+v, %v", m, err)
	}
}

// TestWhatAShimMaySay: whatever else comes is the end of the run, incomplete.
func TestWhatAShimMaySay(t *testing.T) {
	for name, tc := range map[string]struct {
		line string
		kind fault.Kind
		said string
	}{
		"nothing":     {"", fault.Incomplete, "container is gone"},
		"no JSON":     {"hello\n", fault.Incomplete, "container is gone"},
		"neither":     {"{}\n", fault.Incomplete, "neither an exit code nor a refusal"},
		"half a line": {`{"exit":0}`, fault.Incomplete, "container is gone"},
		"too long":    {strings.Repeat(" ", maxMessage) + "\n", fault.Incomplete, "more than 4096 bytes"},
		"a refusal":   {`{"refused":"no mounts"}` + "\n", fault.Refused, `"no mounts"`},
	} {
		d, dir := opened(t)
		ended := running(t.Context(), d)
		conn := knock(t, dir)
		if _, err := io.WriteString(conn, tc.line); err != nil {
			t.Fatal(err)
		}
		conn.Conn.(*net.UnixConn).CloseWrite()
		if r := <-ended; fault.KindOf(r.err) != tc.kind || !strings.Contains(r.err.Error(), tc.said) {
			t.Errorf("%s: %+v", name, r)
		}
		d.Close(false)
	}
}

func TestEndIsAsked(t *testing.T) {
	d, dir := opened(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := running(ctx, d)
	conn := knock(t, dir)
	cancel()
	if m, err := conn.Receive(); err != nil || !m.End || m.Grace != time.Second {
		t.Fatalf("said %+v, %v", m, err)
	}
	code := 143
	if err := conn.Send(Message{Exit: &code}); err != nil {
		t.Fatal(err)
	}
	if r := <-ended; r != (result{143, true, nil}) {
		t.Errorf("%+v", r)
	}
	d.Close(false)
}

func TestNobodyCame(t *testing.T) {
	d, dir := opened(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := running(ctx, d)
	cancel()
	if r := <-ended; r.started || fault.KindOf(r.err) != fault.Incomplete {
		t.Errorf("%+v", r)
	}
	if err := d.Close(false); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestFilesAreGiven: of each start those that were sent with it, which are closed
// where nobody receives them; the runtime takes none.
func TestFilesAreGiven(t *testing.T) {
	d, dir := opened(t)
	ready := make(chan error, 1)
	go func() {
		if err := d.Greet(t.Context(), Message{Run: "run-1", Specification: "sha256:spec"}); err != nil {
			ready <- err
			return
		}
		for _, text := range []string{"one", "two"} {
			r, w, err := os.Pipe()
			if err != nil {
				ready <- err
				return
			}
			if _, err := io.WriteString(w, text); err != nil {
				ready <- err
				return
			}
			w.Close()
			_, _, err = d.Launch(t.Context(), Start{}, []*os.File{r, r}, func() error { return nil })
			r.Close()
			ready <- err
		}
	}()
	conn, zero := greeted(t, dir), 0
	for _, text := range []string{"one", "two"} {
		m, err := conn.Receive()
		if err != nil || len(m.Files) != 2 {
			t.Fatalf("told %+v, %v", m, err)
		}
		got, err := io.ReadAll(m.Files[0])
		if string(got) != text || err != nil {
			t.Errorf("given %q, %v", got, err)
		}
		for _, f := range m.Files {
			f.Close()
		}
		if m, err := conn.Receive(); err != nil || !m.Go {
			t.Fatalf("told %+v, %v", m, err)
		}
		if err := conn.Send(Message{Exit: &zero}); err != nil {
			t.Fatal(err)
		}
		if err := <-ready; err != nil {
			t.Error(err)
		}
	}
	go func() {
		_, _, err := d.Launch(t.Context(), Start{}, nil, func() error { return nil })
		ready <- err
	}()
	if err := conn.Send(Message{Exit: &zero}, os.Stderr); err != nil {
		t.Fatal(err)
	}
	if err := <-ready; fault.KindOf(err) != fault.Incomplete || !strings.Contains(err.Error(), "which are not taken") {
		t.Errorf("the runtime is given a file: %v", err)
	}
	d.Close(false)
}

// TestRefusedBeforeReady: why there is no network is the shim's word, and not what
// became of it.
func TestRefusedBeforeReady(t *testing.T) {
	d, dir := opened(t)
	ended := make(chan error, 1)
	go func() {
		if err := d.Greet(t.Context(), Message{Run: "run-1", Specification: "sha256:spec"}); err != nil {
			ended <- err
			return
		}
		_, _, err := d.Launch(t.Context(), Start{}, nil, func() error { return errors.New("the sockets are gone") })
		ended <- err
	}()
	conn := greeted(t, dir)
	if _, err := conn.Receive(); err != nil {
		t.Fatal(err)
	}
	if err := conn.Send(Message{Refused: "no namespaces here"}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "no namespaces here") {
		t.Errorf("%v", err)
	}
	d.Close(false)
}

// TestDeadSocket: one that a killed runtime left is replaced.
func TestDeadSocket(t *testing.T) {
	dir := t.TempDir()
	first, err := Open(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	first.listener.Close() // and the name stays, as when it is killed
	second, err := Open(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	running(t.Context(), second)
	greeted(t, dir)
	second.Close(false)
	if _, err := Open(dir+"/absent", 0); fault.KindOf(err) != fault.Denied {
		t.Errorf("a directory that is not there: %v", err)
	}
}
