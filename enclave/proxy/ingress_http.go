package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"cloister/governance/statement"
	"cloister/policy/spec"
)

// serve answers one request.
func (g *Ingress) serve(w http.ResponseWriter, r *http.Request) {
	serves(r.Context())
	if r.Body != nil && r.Body != http.NoBody && g.Endpoint.Protocol != spec.ProtocolGRPC {
		// For whoever answers without reading it: net/http reads on then.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(g.stall))
	}
	if g.Runtime != nil && strings.HasPrefix(r.URL.Path, RuntimePath) {
		g.serveRuntime(w, r)
		return
	}
	if status, reason, why := g.admits(r); why != "" {
		g.refuse(w, status, reason, why)
		return
	}
	w = &ingressWriter{ResponseWriter: w, control: http.NewResponseController(w), stall: g.stall, sent: &g.sent, judged: g.Policy != nil}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = g.bounded(w, r)
	}
	if g.Policy != nil {
		var ok bool
		if r, ok = g.judgeRequest(w, r); !ok {
			return
		}
	}
	g.forward.ServeHTTP(w, r)
}

// serveRuntime has the runtime answer for itself.
func (g *Ingress) serveRuntime(w http.ResponseWriter, r *http.Request) {
	seen := &statusSeen{ResponseWriter: w}
	g.Runtime.ServeHTTP(seen, r)
	if seen.status == http.StatusUnauthorized {
		g.refused.add(statement.IngressUnsigned)
	}
}

// admits says why the endpoint's protocol has no such request.
func (g *Ingress) admits(r *http.Request) (status int, reason, why string) {
	upgrade := r.Header.Get("Upgrade")
	switch {
	case r.Method == http.MethodConnect:
		return http.StatusMethodNotAllowed, statement.IngressProtocol, "this endpoint is no proxy"
	case g.Endpoint.Protocol == spec.ProtocolGRPC && (r.ProtoMajor != 2 || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")):
		return http.StatusUnsupportedMediaType, statement.IngressProtocol, "this endpoint speaks gRPC"
	case r.ContentLength > g.maxBody && g.Endpoint.Protocol != spec.ProtocolGRPC:
		return http.StatusRequestEntityTooLarge, statement.IngressTooLarge, fmt.Sprintf("the body has more than %d bytes", g.maxBody)
	case upgrade == "" || r.ProtoMajor == 2:
		return 0, "", ""
	case g.Endpoint.Protocol != spec.ProtocolWebSocket || !strings.EqualFold(upgrade, "websocket"):
		return http.StatusForbidden, statement.IngressProtocol, "this endpoint does not change to protocol " + upgrade
	}
	return 0, "", ""
}

// refuse answers in place of the application.
func (g *Ingress) refuse(w http.ResponseWriter, status int, reason, why string) {
	g.refused.add(reason)
	answer(w, status, why)
}

func answer(w http.ResponseWriter, status int, why string) {
	http.Error(w, "clean room: "+why, status)
}

// bounded is a request's body with its bounds. What protocol grpc streams may be
// silent: its connection is pinged.
func (g *Ingress) bounded(w http.ResponseWriter, r *http.Request) io.ReadCloser {
	if g.Endpoint.Protocol == spec.ProtocolGRPC {
		return r.Body
	}
	return http.MaxBytesReader(w, &progressing{ReadCloser: r.Body, control: http.NewResponseController(w), g: g}, g.maxBody)
}

// progressing gives up a body that does not go on.
type progressing struct {
	io.ReadCloser
	control *http.ResponseController
	g       *Ingress
	stalled bool
}

var errStalled = errors.New("the body did not go on")

func (p *progressing) Read(b []byte) (int, error) {
	if p.stalled {
		return 0, errStalled
	}
	_ = p.control.SetReadDeadline(time.Now().Add(p.g.stall))
	n, err := p.ReadCloser.Read(b)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // and stays so: net/http would read on without end
		// Counted here: the application may still answer what it has of the request.
		p.g.refused.add(statement.IngressStalled)
		p.stalled, err = true, errStalled
	case err != nil: // the next request has a time of its own
		_ = p.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// ingressWriter gives a client up that takes nothing, and counts what it took.
type ingressWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	sent    *atomic.Int64
	judged  bool
}

// Unwrap is for http.ResponseController.
func (w *ingressWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader keeps what comes before a response that is judged: its headers are
// not.
func (w *ingressWriter) WriteHeader(status int) {
	if w.judged && status < 200 && status != http.StatusSwitchingProtocols {
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *ingressWriter) Write(b []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.stall))
	n, err := w.ResponseWriter.Write(b)
	w.sent.Add(int64(n))
	return n, err
}

// forwarder passes requests to the application. Rewrite takes headers away that
// are about connections or about who forwarded, so that what the application
// reads of the client's address is this proxy's word.
func (g *Ingress) forwarder() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", "application"
			p.Out.Host = p.In.Host
			p.Out.URL.RawQuery = p.In.URL.RawQuery // what was judged
			p.SetXForwarded()
			p.Out.Header.Set("X-Forwarded-Proto", "https")
		},
		Transport: g.dialled, FlushInterval: flushInterval(g.Endpoint.Protocol),
		ModifyResponse: g.modify, ErrorHandler: g.failed, BufferPool: copyBuffers,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // it would say what was asked
	}
}

// flushInterval: a response of known length is sent as it fills; one without, and
// events, at once (httputil does that for these by itself).
func flushInterval(protocol string) time.Duration {
	if protocol == spec.ProtocolGRPC {
		return -1
	}
	return 0
}

// modify judges a response, and keeps clients from being sent elsewhere for the
// next one, where nothing is attested.
func (g *Ingress) modify(resp *http.Response) error {
	resp.Header.Del("Alt-Svc")
	if g.Policy != nil {
		if err := g.judgeResponse(resp); err != nil {
			return err
		}
	}
	if g.Endpoint.Protocol == spec.ProtocolGRPC {
		statusLast(resp)
	}
	return nil
}

// statusLast has the status of a gRPC call come after the response's headers, where
// it is one with them: such a response is its headers and no more, which holds only
// as long as nothing is flushed before its end, and a client finds no status in one
// of which there is more.
func statusLast(resp *http.Response) {
	if resp.Header.Get("Grpc-Status") == "" {
		return
	}
	resp.Trailer = http.Header{}
	for name, values := range resp.Header {
		if name != "Content-Type" && name != "Date" {
			resp.Trailer[name] = values
			delete(resp.Header, name)
		}
	}
}

// failed answers where the application does not, or its response may not.
func (g *Ingress) failed(w http.ResponseWriter, r *http.Request, err error) {
	var large *http.MaxBytesError
	var no notLetOut
	var timeout net.Error
	switch {
	case errors.Is(err, errStalled):
		w.Header().Set("Connection", "close")
		answer(w, http.StatusRequestTimeout, errStalled.Error()) // it is counted
	case errors.As(err, &no):
		g.refuse(w, http.StatusForbidden, statement.IngressKept, no.Error())
	case errors.As(err, &large):
		g.refuse(w, http.StatusRequestEntityTooLarge, statement.IngressTooLarge, fmt.Sprintf("the body has more than %d bytes", large.Limit))
	case errors.Is(err, syscall.ECONNREFUSED):
		w.Header().Set("Retry-After", "1")
		g.refuse(w, http.StatusServiceUnavailable, statement.IngressUnanswered, "the application does not listen yet, or no longer")
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil: // nobody is there to read it
	case errors.As(err, &timeout) && timeout.Timeout():
		g.refuse(w, http.StatusGatewayTimeout, statement.IngressUnanswered, "the application did not begin its answer in time")
	default:
		g.refuse(w, http.StatusBadGateway, statement.IngressUnanswered, "the application did not answer as HTTP has it")
	}
}
