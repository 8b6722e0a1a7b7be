// Package swtpm is a test part: a software TPM (swtpm, from Debian) that plays
// the vTPM of a confidential VM of Azure.
//
// Life of one: Start runs the program in a directory of its own; connections to
// TPM.Socket share it, one command at a time, as the kernel's resource manager
// lets them share a device; Provision leaves in it what Azure's paravisor would:
// an attestation key at its handle and an HCL report, around a hardware report
// that the caller has made over the claims, in its NV index.
package swtpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
)

// TPM is a running one.
type TPM struct {
	Socket string // a TPM answers on it

	mu   sync.Mutex // one command at a time
	conn net.Conn   // to swtpm
}

// Start runs swtpm until the test's end. Where the program is missing the test
// fails with the command that installs it.
func Start(t testing.TB) *TPM {
	t.Helper()
	program, err := exec.LookPath("swtpm")
	if err != nil {
		t.Fatal("swtpm is missing: run make test-setup, or: sudo apt-get install -y --no-install-recommends swtpm")
	}
	dir, err := os.MkdirTemp("", "tpm") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	raw := filepath.Join(dir, "swtpm.sock")
	cmd := exec.Command(program, "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+raw, "--flags", "not-need-init,startup-clear")
	diesWithParent(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	tpm := &TPM{Socket: filepath.Join(dir, "tpm.sock")}
	if tpm.conn, err = dial(raw); err != nil {
		t.Fatalf("starting swtpm: %v", err)
	}
	t.Cleanup(func() { tpm.conn.Close() })
	listener, err := net.Listen("unix", tpm.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go tpm.serve(listener)
	return tpm
}

// dial waits for the program to listen: it has no way to tell that it does.
func dial(path string) (net.Conn, error) {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("unix", path)
		if err == nil || time.Now().After(deadline) {
			return conn, err
		}
	}
}

func (t *TPM) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // the test has ended
		}
		go t.serveOne(conn)
	}
}

func (t *TPM) serveOne(conn net.Conn) {
	defer conn.Close()
	for {
		command, err := readMessage(conn)
		if err != nil {
			return
		}
		response, err := t.Send(command)
		if err != nil {
			return
		}
		if _, err := conn.Write(response); err != nil {
			return
		}
	}
}

var _ transport.TPM = (*TPM)(nil)

// Send implements transport.TPM.
func (t *TPM) Send(command []byte) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := t.conn.Write(command); err != nil {
		return nil, err
	}
	return readMessage(t.conn)
}

// readMessage reads a command or a response: tag, then the size of it all.
func readMessage(r io.Reader) ([]byte, error) {
	head := make([]byte, 6)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[2:])
	if size < 10 || size > 8192 {
		return nil, errors.New("not a TPM's message")
	}
	message := append(head, make([]byte, size-6)...)
	if _, err := io.ReadFull(r, message[6:]); err != nil {
		return nil, fmt.Errorf("reading a TPM's message: %w", err)
	}
	return message, nil
}
