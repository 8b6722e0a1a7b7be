package proxy

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strconv"
	"time"

	"cloister/enclave/rego"
	"cloister/policy/spec"
)

// Egress lets the application's requests out that the specification lets out: an
// HTTP proxy inside the application's network, which has no other way.
//
// Life of a request: the application asks for http://host/, or for a tunnel to
// host and port (CONNECT), as every HTTP client does that is told of a proxy.
// Where the specification has a list, host and port are on it, letter for letter,
// or the answer is 403. The name is resolved here, once; none of its addresses
// may be the machine's own or a platform's (reach.go), and to the one that was
// looked at, and no other, the connection is made: a name that changes its mind
// gains nothing. Nothing leaves for a name that is not let out, not even a
// question to a name server. The first time that a destination is let out the
// ledger has accepted a record of it before (tally.go).
//
// What happens in a tunnel depends on the specification's proxy. Secure: the
// proxy ends TLS itself, with a certificate that the application is given to
// trust, reads each request, judges and forwards it over TLS of its own, whose
// server it verifies. What is no HTTP does not get through. Open: bytes pass
// unread, and what is done with them host and port alone decide; the application
// verifies its servers itself.
//
// A Rego policy, for which the proxy is secure, sees Request and decides on it
// before there is a connection. Redirects are the application's to follow: its
// next request is judged like its first. A request that was let through may
// become a WebSocket, whose messages nobody reads.
type Egress struct {
	EgressConfig
	allowed  map[spec.Destination]bool
	tally    *tally
	forward  *httputil.ReverseProxy
	outside  *http.Server  // what the application calls
	within   *http.Server  // what is read out of tunnels
	tunnels  *handedOver   // their connections
	room     chan struct{} // bounds connections
	ca       *authority    // nil where tunnels are open
	flight   inFlight
	ctx      context.Context
	endAll   context.CancelFunc
	upstream *http.Transport
}

// EgressConfig is what the proxy goes by.
type EgressConfig struct {
	Network spec.Network
	Policy  Judge          // for egress policy
	Roots   *x509.CertPool // by which servers are verified; nil: the system's
	Record  Record
	// Resolve returns a host's addresses.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Dial connects to an address that may be reached; a plain dialler when nil.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Log  *slog.Logger // of what the proxy could not do; never of what the application asked for
}

// Judge decides on a request; *rego.Policy is one.
type Judge interface {
	Decide(ctx context.Context, input any) (rego.Decision, error)
}

const (
	// maxConnections of the application, tunnels included. Beyond them it waits.
	maxConnections = 256
	// headerTime bounds the wait for a request's head, and idleTime for the next one.
	headerTime = 10 * time.Second
	idleTime   = 90 * time.Second
	// maxHeader bytes of a request's head: what common servers take is 8 to 64 KiB.
	maxHeader = 64 << 10
	// connectTime bounds resolving and connecting.
	connectTime = 15 * time.Second
)

// NewEgress returns a proxy that Serve serves.
func NewEgress(c EgressConfig) (*Egress, error) {
	if c.Resolve == nil {
		c.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	e := &Egress{EgressConfig: c, allowed: map[spec.Destination]bool{}, tally: newTally(c.Record), room: make(chan struct{}, maxConnections), tunnels: newHandedOver()}
	for _, d := range c.Network.Allow {
		e.allowed[d] = true
	}
	if c.Network.Proxy != spec.ProxyOpen {
		var err error
		if e.ca, err = newAuthority(); err != nil {
			return nil, err
		}
	}
	e.ctx, e.endAll = context.WithCancel(context.Background())
	e.upstream = e.transport()
	e.forward = e.forwarder()
	// Requests end with the proxy, those too that have become WebSockets.
	base := func(net.Listener) context.Context { return e.ctx }
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug) // it would say what the application asked for
	e.outside = &http.Server{Handler: e.serving(e.serveOutside), ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader, ErrorLog: quiet, BaseContext: base}
	e.within = &http.Server{Handler: e.serving(e.serveWithin), ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader, ErrorLog: quiet, BaseContext: base, ConnContext: withTarget}
	go e.within.Serve(e.tunnels)
	return e, nil
}

// Serve answers the application at a listener in its network until that is
// closed: several, one after the other or at once.
func (e *Egress) Serve(l net.Listener) error {
	return e.outside.Serve(&limited{Listener: l, room: e.room})
}

// Certificate returns the authority, in PEM, that the application is to trust for
// what it reaches through the proxy; nil where the proxy does not look.
func (e *Egress) Certificate() []byte {
	if e.ca == nil {
		return nil
	}
	return e.ca.pem
}

// Report records what was decided since it last did.
func (e *Egress) Report(ctx context.Context) error { return e.tally.report(ctx) }

// serving is a handler whose requests Close waits for.
func (e *Egress) serving(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !e.flight.enter() {
			return
		}
		defer e.flight.leave()
		serve(w, r)
	}
}

// Close ends all connections, tunnels among them, and returns once nothing passes
// any more and nothing is on its way to the record.
func (e *Egress) Close() {
	e.flight.close()
	e.endAll()
	e.outside.Close()
	e.within.Close()
	e.tunnels.Close()
	e.flight.wait()
	e.upstream.CloseIdleConnections()
}

// transport makes connections only to where a request's context says that it was
// decided they may go.
func (e *Egress) transport() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			d, err := destinationOf(address)
			if err != nil {
				return nil, err
			}
			return e.connect(ctx, d)
		},
		TLSClientConfig: clientTLS(e.Roots), TLSHandshakeTimeout: connectTime, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: 16, MaxConnsPerHost: maxConnections, IdleConnTimeout: idleTime, MaxResponseHeaderBytes: 1 << 20, DisableCompression: true,
		Protocols: protocols(),
	}
}

func protocols() *http.Protocols {
	var p http.Protocols
	p.SetHTTP1(true) // what is upgraded cannot be HTTP/2
	return &p
}

// destinationOf reads "host:port".
func destinationOf(address string) (spec.Destination, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return spec.Destination{}, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	return spec.Destination{Host: host, Port: uint32(number)}, err
}
