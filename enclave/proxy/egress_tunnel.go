package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
	"time"

	"cloister/policy/spec"
)

// serveTunnel answers CONNECT.
func (e *Egress) serveTunnel(w http.ResponseWriter, r *http.Request) {
	host, port, err := net.SplitHostPort(r.Host)
	d, ok := parseDestination(host, port)
	if err != nil || !ok {
		e.refuse(w, Unreadable, http.StatusBadRequest, "a tunnel goes to a host and a port")
		return
	}
	if e.Network.Egress == spec.EgressList && !e.allowed[d] {
		e.refuse(w, NotListed, http.StatusForbidden, "the contract's list does not have this host and port")
		return
	}
	if e.ca != nil {
		e.readTunnel(w, d)
		return
	}
	if e.Network.Egress != spec.EgressList {
		e.refuse(w, Unreadable, http.StatusForbidden, "what is in a tunnel nobody could judge")
		return
	}
	e.openTunnel(w, r, d)
}

// openTunnel passes the bytes of a destination that is listed.
func (e *Egress) openTunnel(w http.ResponseWriter, r *http.Request, d spec.Destination) {
	if !e.announce(w, r.Context(), d) {
		return
	}
	up, err := e.connect(r.Context(), d)
	if err != nil {
		cannotReach(w, err)
		return
	}
	defer up.Close()
	down, err := accepted(w)
	if err != nil {
		return
	}
	defer down.Close()
	stop := context.AfterFunc(e.ctx, func() { up.Close(); down.Close() })
	defer stop()
	splice(down, up, spliceIdleTime)
}

// accepted tells the application that its tunnel stands, and takes it over with
// what was already sent into it.
func accepted(w http.ResponseWriter) (net.Conn, error) {
	c, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	if err = c.SetDeadline(time.Time{}); err == nil {
		_, err = c.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n"))
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return &peeked{Conn: c, r: buffered.Reader}, nil
}

// peeked is a connection of which something has been read ahead.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

// CloseWrite ends what this side sends.
func (p *peeked) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return p.Conn.Close()
}

// tlsHandshake is the first byte of a TLS record with a handshake: RFC 8446, 5.1.
const tlsHandshake = 22

// readTunnel has the requests in a tunnel served, which is a connection to the
// server that it goes to as far as the application can tell. The place of the
// connection among those that are bounded stays taken until it is closed.
func (e *Egress) readTunnel(w http.ResponseWriter, d spec.Destination) {
	c, err := accepted(w)
	if err != nil {
		return
	}
	p := c.(*peeked)
	_ = p.SetReadDeadline(time.Now().Add(headerTime))
	first, err := p.r.Peek(1)
	if err != nil {
		c.Close()
		return
	}
	scheme := "http"
	if first[0] == tlsHandshake {
		scheme = "https"
		ended, err := e.endTLS(c, d)
		if err != nil {
			e.tally.refuse(Unreadable)
			c.Close()
			return
		}
		c = ended
	}
	_ = c.SetDeadline(time.Time{})
	if !e.tunnels.hand(&tunnelled{c, forwarded{scheme, d}}) {
		c.Close()
	}
}

func (e *Egress) endTLS(c net.Conn, d spec.Destination) (net.Conn, error) {
	certificate, err := e.ca.leaf(d.Host)
	if err != nil {
		return nil, err
	}
	server := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, SessionTicketsDisabled: true})
	ctx, cancel := context.WithTimeout(e.ctx, headerTime)
	defer cancel()
	if err := c.SetDeadline(time.Now().Add(headerTime)); err != nil {
		return nil, err
	}
	return server, server.HandshakeContext(ctx)
}

// serveWithin answers the requests in tunnels.
func (e *Egress) serveWithin(w http.ResponseWriter, r *http.Request) {
	f, ok := r.Context().Value(targetKey).(forwarded)
	if !ok || r.Method == http.MethodConnect || r.URL.Host != "" {
		e.refuse(w, Unreadable, http.StatusBadRequest, "in a tunnel is a server, not a proxy")
		return
	}
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		host, port = unbracket(r.Host), map[string]string{"http": "80", "https": "443"}[f.scheme]
	}
	// Another host than the tunnel's would be another site of the same server's,
	// which nobody decided about.
	if asked, ok := parseDestination(host, port); !ok || asked != f.to {
		e.refuse(w, Unreadable, http.StatusMisdirectedRequest, "the request is for another host than its tunnel")
		return
	}
	e.pass(w, r, f.scheme, f.to)
}

func unbracket(host string) string {
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1]
	}
	return host
}

// tunnelled is a connection in which requests are read.
type tunnelled struct {
	net.Conn
	target forwarded
}

func withTarget(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tunnelled); ok {
		return context.WithValue(ctx, targetKey, t.target)
	}
	return ctx
}

// handedOver is a listener whose connections are those handed to it.
type handedOver struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandedOver() *handedOver {
	return &handedOver{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (h *handedOver) hand(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		return false
	}
}

// Accept implements net.Listener.
func (h *handedOver) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handedOver) Close() error { h.once.Do(func() { close(h.done) }); return nil }

// Addr implements net.Listener.
func (h *handedOver) Addr() net.Addr { return &net.TCPAddr{} }

// limited accepts a connection only where there is room, until which those that
// want one wait in the kernel.
type limited struct {
	net.Listener
	room chan struct{}
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	l.room <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.room
		return nil, err
	}
	return &placed{Conn: c, leave: sync.OnceFunc(func() { <-l.room })}, nil
}

// placed leaves its place when it is closed.
type placed struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (p *placed) Close() error { defer p.leave(); return p.Conn.Close() }

// CloseWrite ends what this side sends.
func (p *placed) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func clientTLS(roots *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}
