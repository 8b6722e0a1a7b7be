package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"cloister/governance/statement"
	"cloister/policy/spec"
)

// IngressInput is what an endpoint's policy decides on, and the shape of that
// JSON: once of each request before the application sees it, and once of each
// response, with the request it is to, before the client does. The messages of a
// WebSocket and of a gRPC stream are not looked at.
type IngressInput struct {
	Phase    string          `json:"phase"` // request or response
	Endpoint string          `json:"endpoint"`
	Request  IngressMessage  `json:"request"`
	Response *IngressMessage `json:"response,omitempty"`
	Client   IngressClient   `json:"client"`
	Sent     int64           `json:"sent"` // bytes of response bodies that this endpoint has sent in this run
}

// IngressMessage is a request, or with Status a response.
type IngressMessage struct {
	Method string `json:"method,omitempty"`
	Host   string `json:"host,omitempty"`
	Path   string `json:"path,omitempty"`  // as it is sent, escaped
	Query  string `json:"query,omitempty"` // likewise
	Status int    `json:"status,omitempty"`
	// Headers that go on, by their names in lower case.
	Headers map[string][]string `json:"headers"`
	// Size of the body in bytes; -1 where it is not known before it ends.
	Size int64 `json:"size"`
	// Body is there where it is JSON (application/json) of at most maxJudged bytes
	// in which no object has a name twice, in whatever case.
	Body json.RawMessage `json:"body,omitempty"`
}

// IngressClient is who asks.
type IngressClient struct {
	Address  string `json:"address"`
	Requests int    `json:"requests"` // of this address in this minute, with this one
}

// maxJudged bounds a body that is read before it is judged. What is longer is
// judged by its head and size.
const maxJudged = 64 << 10

const (
	phaseRequest  = "request"
	phaseResponse = "response"
)

// notLetOut is why a response is kept back.
type notLetOut struct{ reason string }

func (n notLetOut) Error() string { return n.reason }

type judgedKey struct{}

// judgeRequest asks the policy, and answers where it says no. The request that it
// returns remembers what was asked about, for the response.
func (g *Ingress) judgeRequest(w http.ResponseWriter, r *http.Request) (*http.Request, bool) {
	m := IngressMessage{Method: r.Method, Host: r.Host, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Headers: lowered(r.Header), Size: r.ContentLength}
	var err error
	if r.Body, err = m.readBody(r.Body, r.Header); err != nil {
		if errors.Is(err, errStalled) {
			answer(w, http.StatusRequestTimeout, errStalled.Error()) // it is counted
		} else {
			g.refuse(w, http.StatusBadRequest, statement.IngressUnreadable, "the body ended early")
		}
		return r, false
	}
	address, _, _ := net.SplitHostPort(r.RemoteAddr)
	in := &IngressInput{Phase: phaseRequest, Endpoint: g.Endpoint.Name, Request: m, Client: IngressClient{address, g.clients.asks(address, time.Now())}, Sent: g.sent.Load()}
	if why := g.decide(r.Context(), in); why != "" {
		g.refuse(w, http.StatusForbidden, statement.IngressPolicy, why)
		return r, false
	}
	in.Request.Body = nil // it is long enough once
	return r.WithContext(context.WithValue(r.Context(), judgedKey{}, in)), true
}

func (g *Ingress) judgeResponse(resp *http.Response) error {
	in, ok := resp.Request.Context().Value(judgedKey{}).(*IngressInput)
	if !ok {
		return notLetOut{"its request was not judged"}
	}
	m := IngressMessage{Status: resp.StatusCode, Headers: lowered(resp.Header), Size: resp.ContentLength}
	var err error
	if resp.Body, err = m.readBody(resp.Body, resp.Header); err != nil {
		return err
	}
	about := *in
	about.Phase, about.Response, about.Sent = phaseResponse, &m, g.sent.Load()
	if why := g.decide(resp.Request.Context(), &about); why != "" {
		resp.Body.Close()
		return notLetOut{why}
	}
	if g.Endpoint.Protocol != spec.ProtocolGRPC {
		resp.Trailer = nil
		resp.Body = withoutTrailers{resp.Body, resp}
	}
	return nil
}

// withoutTrailers keeps headers back that come after the response was judged. Those
// of gRPC are its status.
type withoutTrailers struct {
	io.ReadCloser
	resp *http.Response
}

func (b withoutTrailers) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.resp.Trailer = nil
	}
	return n, err
}

func (b withoutTrailers) Close() error {
	err := b.ReadCloser.Close()
	b.resp.Trailer = nil
	return err
}

// decide returns why not, or "".
func (g *Ingress) decide(ctx context.Context, in *IngressInput) string {
	said, err := g.Policy.Decide(ctx, in)
	switch {
	case err != nil:
		g.Log.Warn("an endpoint's policy did not decide, so the answer is no", "endpoint", g.Endpoint.Name, "error", err)
		return "the contract's policy did not decide on this " + in.Phase
	case !said.Allow:
		return fmt.Sprintf("the contract's policy does not let this %s through: %s", in.Phase, said.Reason)
	}
	return ""
}

// readBody puts a body that is short JSON into the message, and returns one that
// reads the same again. A body that ends meanwhile has a size.
func (m *IngressMessage) readBody(body io.ReadCloser, h http.Header) (io.ReadCloser, error) {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if body == nil || err != nil || kind != "application/json" || m.Size > maxJudged || m.Size == 0 || h.Get("Content-Encoding") != "" {
		return body, nil
	}
	read, err := io.ReadAll(io.LimitReader(body, maxJudged+1))
	if err != nil {
		return body, err
	}
	if len(read) <= maxJudged {
		m.Size = int64(len(read))
		if unambiguous(read) {
			m.Body = read
		}
	}
	return rest{io.MultiReader(bytes.NewReader(read), body), body}, nil
}

type rest struct {
	io.Reader
	io.Closer
}

// unambiguous reports whether text is JSON that every parser reads alike: one that
// has a name twice, the application could read otherwise than the policy did. Some
// parsers, Go's among them, take names that differ in case for one.
func unambiguous(text []byte) bool {
	d := json.NewDecoder(bytes.NewReader(text))
	return json.Valid(text) && utf8.Valid(text) && namesOnce(d)
}

// namesOnce reads one value.
func namesOnce(d *json.Decoder) bool {
	t, err := d.Token()
	open, ok := t.(json.Delim)
	if err != nil || !ok {
		return err == nil
	}
	names := map[string]bool{}
	for d.More() {
		if open == '{' {
			name, err := d.Token()
			text, _ := name.(string)
			text = strings.ToLower(strings.ToUpper(text)) // both: ſ and s, and the Kelvin sign and k, are one
			if err != nil || names[text] {
				return false
			}
			names[text] = true
		}
		if !namesOnce(d) {
			return false
		}
	}
	_, err = d.Token()
	return err == nil
}

// onlyHere are headers that the forwarders take away or write themselves: those
// of a connection (RFC 9110, 7.6.1), of proxies, and of who forwarded.
var onlyHere = []string{"Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding",
	"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}

// lowered are the headers that go on, by their names in lower case. A sender who
// names others in Connection has them taken away on the way: a policy that saw
// them would decide on what the receiver never reads.
func lowered(h http.Header) map[string][]string {
	h = h.Clone()
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); !strings.EqualFold(name, "Upgrade") {
				h.Del(name)
			}
		}
	}
	h.Del("Connection")
	for _, name := range onlyHere {
		h.Del(name)
	}
	out := map[string][]string{}
	for name, values := range h {
		out[strings.ToLower(name)] = values
	}
	return out
}
