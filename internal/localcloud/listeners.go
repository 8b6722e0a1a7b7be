package localcloud

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"cloister/internal/fault"
	"cloister/internal/localcloud/wire"
)

// listeners are the ports of the services and the servers behind them.
type listeners struct {
	mu       sync.Mutex // guards what follows
	services []*service
	servers  []*http.Server
	served   []net.Listener
	closed   bool
}

// service is one port: taken first, served when its service is made, because
// the services' addresses are part of what they say.
type service struct {
	name     string
	secure   bool
	listener net.Listener
	server   *http.Server // once it is served
}

// take listens for a service on the address it had before, or on any port of
// loopback.
func (l *listeners) take(name, address string, secure bool) error {
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fault.Errorf(fault.Conflict, "stop what listens there: release policies name the address, so that it cannot change",
			"the %s service cannot have its address again: %w", name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.services = append(l.services, &service{name: name, secure: secure, listener: listener})
	return nil
}

func (l *listeners) find(name string) *service {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.services {
		if s.name == name {
			return s
		}
	}
	return nil
}

func (l *listeners) address(name string) string { return l.find(name).listener.Addr().String() }

func (l *listeners) ip(name string) net.IP {
	return l.find(name).listener.Addr().(*net.TCPAddr).IP
}

// end frees a service's port.
func (l *listeners) end(name string) error {
	s := l.find(name)
	if s == nil {
		return nil
	}
	l.mu.Lock()
	l.services = slices.DeleteFunc(l.services, func(o *service) bool { return o == s })
	l.mu.Unlock()
	if s.server == nil {
		return s.listener.Close()
	}
	return s.server.Close()
}

func (l *listeners) url(name string) string {
	if l.find(name).secure {
		return "https://" + l.address(name)
	}
	return "http://" + l.address(name)
}

// serve answers on the service's port with h, over TLS where config is given.
func (l *listeners) serve(name string, h http.Handler, config *tls.Config) {
	s := l.find(name)
	listener := s.listener
	if config != nil {
		listener = tls.NewListener(listener, config)
	}
	s.server = l.run(listener, h)
}

// run serves h on listener until close.
func (l *listeners) run(listener net.Listener, h http.Handler) *http.Server {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		// What a client's broken handshake prints is of no use to the user.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	l.mu.Lock()
	l.servers, l.served = append(l.servers, server), append(l.served, listener)
	closed := l.closed
	l.mu.Unlock()
	if closed {
		listener.Close()
		return server
	}
	go server.Serve(listener) //nolint:errcheck // ends with close
	return server
}

// probe returns when every port answers; over TLS, when the handshake is done.
func (l *listeners) probe(ctx context.Context, ca *wire.CA) error {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate)
	for _, s := range l.services {
		var d interface {
			DialContext(context.Context, string, string) (net.Conn, error)
		} = &net.Dialer{}
		if s.secure {
			d = &tls.Dialer{Config: &tls.Config{RootCAs: pool}}
		}
		conn, err := d.DialContext(ctx, "tcp", s.listener.Addr().String())
		if err != nil {
			return fmt.Errorf("the %s service does not answer: %w", s.name, err)
		}
		conn.Close()
	}
	return nil
}

// close stops serving: requests under way get stopTime to end.
func (l *listeners) close() error {
	l.mu.Lock()
	servers, served, services := l.servers, l.served, l.services
	l.servers, l.served, l.closed = nil, nil, true
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	var errs []error
	for _, s := range servers {
		if err := s.Shutdown(ctx); err != nil {
			errs = append(errs, s.Close())
		}
	}
	// A Serve that had not begun closes its listener only when it does.
	for _, listener := range served {
		if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	for _, s := range services {
		if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
