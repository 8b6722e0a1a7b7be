package proxy

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"

	"cloister/attested/proof"
	"cloister/governance/statement"
	"cloister/policy/spec"
)

// Ingress lets clients in at one endpoint of the specification, and no further
// than to the port of the application that it names.
//
// Life of a request: a client connects; where it or all have too many
// connections already, this one is closed. It has ten seconds for a TLS 1.3
// handshake with the key that the run's report binds and, if it asked for it in
// ALPN, is signed the proof that it talks to this run (package proof). What is in
// the connection then is HTTP/1.1 or HTTP/2 whatever ALPN said, but for protocol
// tcp, whose bytes are passed on. A request's head has ten seconds too; what its
// protocol does not admit gets an answer and goes no further, and so does what
// the endpoint's Rego policy does not let through (ingress_policy.go). The rest
// goes to the application without the headers that are the connection's, in the
// order of net/http/httputil; its response, which has to begin within ten minutes
// but for gRPC's, is judged before its first byte goes out. A body of either side
// that makes no progress for a minute is given up, and so is protocol tcp's
// connection in which nothing passes for ten. What is refused is counted, by
// reason, for the record (ReportIngress).
type Ingress struct {
	IngressConfig
	tls     *tls.Config
	server  *http.Server
	forward *httputil.ReverseProxy
	ready   *handedOver
	clients *clients
	dialled *http.Transport
	passing sync.WaitGroup // connections before they are the server's, and those of tcp
	maxBody int64
	stall   time.Duration // ingressStallTime
	idle    time.Duration // spliceIdleTime

	ctx    context.Context // ends with the ingress
	endAll context.CancelFunc

	sent    atomic.Int64 // bytes of response bodies
	refused refusals     // requests and connections
}

// IngressConfig is what an endpoint goes by.
type IngressConfig struct {
	Endpoint spec.Endpoint
	Identity IngressIdentity
	// Dial connects to the application's port.
	Dial   func(ctx context.Context) (net.Conn, error)
	Policy Judge // nil: none is asked
	// Runtime, if not nil, answers what is asked below RuntimePath, in place of the
	// application and without asking the policy.
	Runtime http.Handler
	Log     *slog.Logger
}

// RuntimePath is the runtime's own at every endpoint that speaks HTTP.
const RuntimePath = "/.well-known/cloister/"

// IngressIdentity is what the run shows to clients.
type IngressIdentity struct {
	Certificate tls.Certificate // of proof.Certificate
	Contract    [32]byte
	// Checkpoint is the newest that the run has verified.
	Checkpoint func() []byte
}

const (
	ingressHandshakeTime = 10 * time.Second // with the exchange; as attested.HandshakeTime
	ingressHeaderTime    = 10 * time.Second
	ingressIdleTime      = 90 * time.Second
	// ingressStallTime is how long a body may make no progress.
	ingressStallTime = time.Minute
	// ingressAnswerTime is how long the application may take to begin a response,
	// once it has the request: what a call computes, it may. Of protocol grpc, whose
	// streams may be silent, the connection is pinged instead.
	ingressAnswerTime = 10 * time.Minute
	ingressMaxHeader  = 64 << 10 // bytes; common servers take 8 to 64 KiB
	// ingressMaxBody bounds a request's body in bytes, but for gRPC's, whose
	// streams have no end.
	ingressMaxBody = 1 << 30
	// The connections of all clients, and of one address: each costs some 40 KiB
	// and two descriptors, and a runtime has 20,000 of them.
	ingressMaxConns     = 2048
	ingressMaxOfOne     = 512
	ingressMaxStreams   = 128 // at once in one connection of HTTP/2
	ingressPingInterval = 30 * time.Second
)

// NewIngress returns an endpoint that Serve serves.
func NewIngress(c IngressConfig) (*Ingress, error) {
	if c.Identity.Checkpoint == nil || c.Dial == nil || len(c.Identity.Certificate.Certificate) == 0 {
		return nil, errors.New("the endpoint is not set up")
	}
	g := &Ingress{IngressConfig: c, ready: newHandedOver(), clients: newClients(ingressMaxConns, ingressMaxOfOne), maxBody: ingressMaxBody,
		stall: ingressStallTime, idle: spliceIdleTime}
	g.ctx, g.endAll = context.WithCancel(context.Background())
	g.tls = &tls.Config{
		Certificates: []tls.Certificate{c.Identity.Certificate}, MinVersion: tls.VersionTLS13,
		NextProtos: g.applicationProtocols(), SessionTicketsDisabled: true,
	}
	g.dialled = g.transport()
	g.forward = g.forwarder()
	g.server = &http.Server{
		Handler: http.HandlerFunc(g.serve), ReadHeaderTimeout: ingressHeaderTime, IdleTimeout: ingressIdleTime,
		MaxHeaderBytes: ingressMaxHeader, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // clients' words
		Protocols: ingressProtocols(true, true), // what TLS protects is plain here
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: ingressMaxStreams, SendPingTimeout: ingressPingInterval},
		ConnState: g.observe, ConnContext: withWatched,
	}
	go g.server.Serve(g.ready)
	return g, nil
}

// applicationProtocols are ALPN's. A client that wants no proof is served all the
// same: to verify is in its interest, and the key is the same.
func (g *Ingress) applicationProtocols() []string {
	switch g.Endpoint.Protocol {
	case spec.ProtocolTCP:
		return []string{proof.ALPN}
	case spec.ProtocolGRPC:
		return []string{proof.ALPN, "h2"}
	}
	return []string{proof.ALPN, "h2", "http/1.1"}
}

func ingressProtocols(http1, http2 bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(http1)
	p.SetUnencryptedHTTP2(http2)
	return p
}

// transport goes to the application, whatever the address.
func (g *Ingress) transport() *http.Transport {
	grpc := g.Endpoint.Protocol == spec.ProtocolGRPC
	answerTime := ingressAnswerTime
	if grpc {
		answerTime = 0
	}
	return &http.Transport{
		ResponseHeaderTimeout: answerTime, HTTP2: &http.HTTP2Config{SendPingTimeout: ingressPingInterval},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return g.Dial(ctx) },
		Protocols:   ingressProtocols(!grpc, grpc), DisableCompression: true,
		MaxIdleConnsPerHost: 256, IdleConnTimeout: ingressIdleTime, MaxResponseHeaderBytes: ingressMaxHeader,
	}
}

// Serve answers clients at a listener until Close, or until it is closed.
func (g *Ingress) Serve(l net.Listener) error {
	stop := context.AfterFunc(g.ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil && isTemporary(err) { // out of descriptors, say: others end meanwhile
			select {
			case <-g.ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		if err != nil {
			return err
		}
		held, ok := g.clients.hold(conn)
		if !ok {
			g.refused.add(statement.IngressCrowded)
			conn.Close()
			continue
		}
		g.passing.Go(func() { g.receive(held) })
	}
}

func isTemporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary() && !errors.Is(err, net.ErrClosed)
}

// receive makes the handshake of a connection, gives the proof that is asked for,
// and hands it on.
func (g *Ingress) receive(raw net.Conn) {
	stop := context.AfterFunc(g.ctx, func() { raw.Close() })
	defer stop()
	conn := tls.Server(raw, g.tls)
	if err := g.handshake(conn); err != nil {
		g.refused.add(statement.IngressHandshake)
		raw.Close()
		return
	}
	if g.Endpoint.Protocol == spec.ProtocolTCP {
		g.pass(conn)
		return
	}
	if !g.ready.hand(&watched{Conn: conn}) {
		conn.Close()
	}
}

func (g *Ingress) handshake(conn *tls.Conn) error {
	conn.SetDeadline(time.Now().Add(ingressHandshakeTime))
	if err := conn.HandshakeContext(g.ctx); err != nil {
		return err
	}
	switch conn.ConnectionState().NegotiatedProtocol {
	case proof.ALPN:
		id := g.Identity
		key, ok := id.Certificate.PrivateKey.(crypto.Signer)
		if !ok {
			return errors.New("the endpoint's key cannot sign")
		}
		if err := proof.Answer(conn, key, id.Contract, id.Checkpoint()); err != nil {
			return err
		}
	default:
		if g.Endpoint.Protocol == spec.ProtocolGRPC && conn.ConnectionState().NegotiatedProtocol != "h2" {
			return fmt.Errorf("gRPC is HTTP/2")
		}
	}
	return conn.SetDeadline(time.Time{})
}

// pass connects a client of protocol tcp with the application.
func (g *Ingress) pass(client net.Conn) {
	defer client.Close()
	app, err := g.Dial(g.ctx)
	if err != nil {
		g.refused.add(statement.IngressUnanswered)
		g.Log.Warn("the application does not answer at its port", "endpoint", g.Endpoint.Name, "error", err)
		return
	}
	defer app.Close()
	splice(client, app, g.idle)
}

// Close ends the endpoint: no connection is taken any more, requests that are on
// their way have until ctx ends, and then all connections are closed.
func (g *Ingress) Close(ctx context.Context) error {
	err := g.server.Shutdown(ctx)
	g.endAll()
	err = errors.Join(err, g.server.Close())
	g.ready.Close()
	g.clients.closeAll()
	g.passing.Wait()
	g.dialled.CloseIdleConnections()
	g.Log.Info("endpoint is closed", "endpoint", g.Endpoint.Name, "refused", g.refused.total(), "bytes", g.sent.Load())
	return err
}
