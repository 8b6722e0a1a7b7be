package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"syscall"

	"cloister/policy/spec"
)

// Request is what a policy's input says of a request, and the shape of that JSON.
type Request struct {
	Method string `json:"method"`
	Scheme string `json:"scheme"` // http or https
	Host   string `json:"host"`   // in lower case, without port
	Port   uint32 `json:"port"`
	Path   string `json:"path"`            // as it is sent, escaped
	Query  string `json:"query,omitempty"` // likewise
	// Headers that go on, by their names in lower case, without Host.
	Headers map[string][]string `json:"headers"`
	// Size of the body in bytes; -1 where the request does not say it.
	Size int64 `json:"size"`
}

// serveOutside answers the application's requests to the proxy itself.
func (e *Egress) serveOutside(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		e.serveTunnel(w, r)
		return
	}
	if r.URL.Scheme != "http" || r.URL.Host == "" {
		e.refuse(w, Unreadable, http.StatusBadRequest, "ask this proxy for http://HOST/PATH, or for a tunnel")
		return
	}
	d, ok := parseDestination(r.URL.Hostname(), portOr(r.URL.Port(), "80"))
	if !ok {
		e.refuse(w, Unreadable, http.StatusBadRequest, "that is no host")
		return
	}
	e.pass(w, r, "http", d)
}

func portOr(port, usual string) string {
	if port == "" {
		return usual
	}
	return port
}

// pass decides on a request, and forwards it.
func (e *Egress) pass(w http.ResponseWriter, r *http.Request, scheme string, d spec.Destination) {
	if decision, reason := e.judge(r, scheme, d); decision != Allowed {
		e.refuse(w, decision, http.StatusForbidden, reason)
		return
	}
	if !e.announce(w, r.Context(), d) {
		return
	}
	out := r.WithContext(withDestination(r.Context(), scheme, d))
	e.forward.ServeHTTP(w, out)
}

// judge decides on a request that is read.
func (e *Egress) judge(r *http.Request, scheme string, d spec.Destination) (decision, reason string) {
	if up := r.Header.Get("Upgrade"); up != "" && !strings.EqualFold(up, "websocket") {
		return Unreadable, "only to a WebSocket may be changed"
	}
	switch e.Network.Egress {
	case spec.EgressList:
		if !e.allowed[d] {
			return NotListed, "the contract's list does not have this host and port"
		}
		return Allowed, ""
	case spec.EgressPolicy:
		return e.ask(r, scheme, d)
	}
	return NotListed, "the contract lets nothing out"
}

func (e *Egress) ask(r *http.Request, scheme string, d spec.Destination) (decision, reason string) {
	input := Request{Method: r.Method, Scheme: scheme, Host: d.Host, Port: d.Port, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Headers: lowered(r.Header), Size: r.ContentLength}
	said, err := e.Policy.Decide(r.Context(), input)
	if err != nil {
		e.Log.Warn("egress policy did not decide, so the answer is no", "error", err)
		return ByPolicy, "the contract's policy did not decide"
	}
	if !said.Allow {
		return ByPolicy, "the contract's policy does not let this out: " + said.Reason
	}
	return Allowed, ""
}

// announce has a destination in the record, or answers that it is not reached.
func (e *Egress) announce(w http.ResponseWriter, ctx context.Context, d spec.Destination) bool {
	err := e.tally.allow(ctx, d)
	if err != nil {
		e.Log.Warn("egress is not recorded, so it does not happen", "error", err)
		http.Error(w, "this could not be recorded, so it does not happen", http.StatusServiceUnavailable)
	}
	return err == nil
}

func (e *Egress) refuse(w http.ResponseWriter, decision string, status int, reason string) {
	e.tally.refuse(decision)
	w.Header().Set("Connection", "close")
	http.Error(w, "clean room: "+reason, status)
}

type contextKey int

const (
	targetKey contextKey = iota // of a tunnel: spec.Destination
	forwardKey
)

type forwarded struct {
	scheme string
	to     spec.Destination
}

func withDestination(ctx context.Context, scheme string, d spec.Destination) context.Context {
	return context.WithValue(ctx, forwardKey, forwarded{scheme, d})
}

// forwarder sends a request on to the destination that was decided about,
// whatever else the request says of its host.
func (e *Egress) forwarder() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			f := p.In.Context().Value(forwardKey).(forwarded)
			p.Out.URL.Scheme, p.Out.URL.Host = f.scheme, f.to.String()
			p.Out.Host = hostHeader(f)
			p.Out.URL.RawQuery = p.In.URL.RawQuery // what was judged
			p.Out.Header.Del("Proxy-Authorization")
			p.Out.Header.Del("Proxy-Connection")
			if _, ok := p.In.Header["User-Agent"]; !ok {
				p.Out.Header.Set("User-Agent", "")
			}
		},
		Transport: e.upstream, FlushInterval: -1,
		ErrorLog:     slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { cannotReach(w, err) },
	}
}

// hostHeader leaves the usual port out, as clients do.
func hostHeader(f forwarded) string {
	if f.scheme == "http" && f.to.Port == 80 || f.scheme == "https" && f.to.Port == 443 {
		if strings.Contains(f.to.Host, ":") {
			return "[" + f.to.Host + "]"
		}
		return f.to.Host
	}
	return f.to.String()
}

// cannotReach says why, in words of this proxy's: an error of the network has the
// address in it that the name was resolved to, which is not the application's to
// know.
func cannotReach(w http.ResponseWriter, err error) {
	status, why := http.StatusBadGateway, "it did not answer as HTTP has it"
	var timeout net.Error
	var unverified *tls.CertificateVerificationError
	var op *net.OpError
	switch {
	case errors.Is(err, errForbidden):
		status, why = http.StatusForbidden, errForbidden.Error()
	case errors.Is(err, errUnknown):
		why = errUnknown.Error()
	case errors.As(err, &unverified):
		why = "its certificate is not trusted for its name"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		status, why = http.StatusGatewayTimeout, "it does not answer"
	case errors.Is(err, syscall.ECONNREFUSED):
		why = "it refuses the connection"
	case errors.As(err, &op):
		why = "the connection is not to be made, or broke"
	}
	http.Error(w, "clean room: reaching the host: "+why, status)
}
