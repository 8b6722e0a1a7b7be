package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"cloister/internal/cli"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// statusSocket is below /dev, of which the application gets another: it has no
// name for it. Root and the runtime's own user are answered, nobody else.
const statusSocket = "/dev/shm/cloisterd.sock"

func statusFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "status", Usage: "the `SOCKET` at which cloisterd status asks, below /dev", Value: statusSocket}
}

func statusCommand() *urfave.Command {
	return &urfave.Command{
		Name: "status", Usage: "say how far the run on this machine has come",
		Description: "JSON: run, contract, version, starts, exit, steps (name, seconds since the\n" +
			"process began), volumes (name, writable, reads, readBytes, cacheHits, cacheMisses,\n" +
			"writtenBytes, sequence, storeRequests, storeErrors), consentChecks, auditRecords.",
		Flags: []urfave.Flag{statusFlag(), &urfave.BoolFlag{Name: "json", Usage: "print JSON"}},
		Action: func(c *urfave.Context) error {
			s, err := askStatus(c.String("status"))
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return json.NewEncoder(c.App.Writer).Encode(s)
			}
			s.print(c.App.Writer)
			return nil
		},
	}
}

func askStatus(socket string) (s status, err error) {
	conn, err := net.DialTimeout("unix", socket, answerTime)
	if err != nil {
		return s, fault.Errorf(fault.NotFound, "see whether cloisterd runs here, as you or as root, and with which --status", "asking for the status: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return s, err
	}
	if err := json.NewDecoder(conn).Decode(&s); err != nil {
		return s, fault.Errorf(fault.Denied, "ask as the runtime's user, or as root", "reading the status: %w", err)
	}
	return s, nil
}

func (s status) print(w io.Writer) {
	fmt.Fprintf(w, "run %s\ncontract %s version %d\n", s.Run, cli.Printable(s.Contract), s.Version)
	for _, st := range s.Steps {
		fmt.Fprintf(w, "%8.3f s  %s\n", st.Seconds, st.Name)
	}
	for _, v := range s.Volumes {
		if v.Writable {
			fmt.Fprintf(w, "output %s: %d bytes written, record %d; store: %d requests, %d failed\n", v.Name, v.Written, v.Sequence, v.Requests, v.Errors)
		} else {
			fmt.Fprintf(w, "input %s: %d reads of %d bytes, %d of %d ranges from memory; store: %d requests, %d failed\n",
				v.Name, v.Reads, v.ReadBytes, v.Hits, v.Hits+v.Misses, v.Requests, v.Errors)
		}
	}
	fmt.Fprintf(w, "consent asked %d times, %d records accepted\n", s.Consent, s.Audit)
}

// serveStatus answers at a socket until it is closed. Another runtime's, that is
// alive, is left alone.
func (m *monitor) serveStatus(socket string, log *slog.Logger) (net.Listener, error) {
	if !filepath.IsAbs(socket) || filepath.Clean(socket) != socket || !within(socket, "/dev") {
		return nil, fault.Errorf(fault.Usage, "give a path below /dev, such as "+statusSocket, "--status %s: the application could reach it", socket)
	}
	if conn, err := net.Dial("unix", socket); err == nil {
		conn.Close()
		return nil, fault.Errorf(fault.Conflict, "give this one another --status", "another runtime tells its status at %s", socket)
	}
	_ = os.Remove(socket) // of a runtime that is gone
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("telling the status at %s: %w", socket, err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go m.answer(conn.(*net.UnixConn), log)
		}
	}()
	return l, nil
}

func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

func (m *monitor) answer(conn *net.UnixConn, log *slog.Logger) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(answerTime))
	if uid, err := peer(conn); err != nil || uid != 0 && uid != uint32(os.Getuid()) {
		log.Warn("the status is not told", "uid", uid, "error", err)
		return
	}
	_ = json.NewEncoder(conn).Encode(m.read()) // who asked has gone
}

// peer is who is at the other end.
func peer(conn *net.UnixConn) (uid uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		return 0, e
	}
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}
