package attested

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"os"
	"testing"
	"time"
)

var testDir string

func TestMain(m *testing.M) {
	var err error
	if testDir, err = os.MkdirTemp("", "attested-test-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(testDir)
	os.Exit(code)
}

func template() *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
}

// handOver is a listener of connections that are handed to it.
type handOver struct {
	conns chan net.Conn
	done  chan struct{}
}

func newHandOver() *handOver { return &handOver{make(chan net.Conn), make(chan struct{})} }

// held hides that a connection is TLS, and says when it is closed.
type held struct {
	net.Conn
	closed chan struct{}
}

func (h held) Close() error {
	err := h.Conn.Close()
	select {
	case <-h.closed:
	default:
		close(h.closed)
	}
	return err
}

// hand returns when the connection is closed.
func (h *handOver) hand(c *tls.Conn) {
	held := held{c, make(chan struct{})}
	h.conns <- held
	select {
	case <-held.closed:
	case <-h.done:
	}
}

func (h *handOver) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, errors.New("closed")
	}
}

func (h *handOver) Close() error   { close(h.done); return nil }
func (h *handOver) Addr() net.Addr { return &net.TCPAddr{} }
