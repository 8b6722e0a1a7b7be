package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"cloister/attested/proof"
	"cloister/enclave/rego"
	"cloister/policy/spec"
)

var contract = [32]byte{7}

// door is an endpoint in front of an application.
type door struct {
	t       *testing.T
	ingress *Ingress
	address string
	client  *http.Client // HTTP/1.1, or HTTP/2 for gRPC, under attested TLS
}

// decide is a judge that sees what a policy's process would.
func decide(f func(IngressInput) rego.Decision) Judge {
	return decider(func(raw []byte) (rego.Decision, error) {
		var in IngressInput
		err := json.Unmarshal(raw, &in)
		return f(in), err
	})
}

type decider func([]byte) (rego.Decision, error)

func (d decider) Decide(_ context.Context, input any) (rego.Decision, error) {
	raw, err := json.Marshal(input)
	if err != nil {
		return rego.Decision{}, err
	}
	return d(raw)
}

func open(t *testing.T, protocol string, policy Judge, application string) *door {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := proof.Certificate(key, proof.Evidence{RunID: [16]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := NewIngress(IngressConfig{
		Endpoint: spec.Endpoint{Name: "api", Port: 443, Protocol: protocol}, Policy: policy,
		Identity: IngressIdentity{cert, contract, func() []byte { return []byte("checkpoint") }},
		Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", application)
		},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	d := &door{t: t, ingress: g, address: l.Addr().String()}
	d.client = &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return d.attested() },
		Protocols:   ingressProtocols(protocol != spec.ProtocolGRPC, protocol == spec.ProtocolGRPC)}}
	t.Cleanup(func() {
		d.client.CloseIdleConnections()
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what is on its way is not waited for
		g.Close(ctx)
		if err := <-served; !errors.Is(err, net.ErrClosed) {
			t.Errorf("serving ended with %v", err)
		}
	})
	return d
}

func (d *door) dial(alpn ...string) (*tls.Conn, error) {
	return tls.Dial("tcp", d.address, &tls.Config{InsecureSkipVerify: true, NextProtos: alpn, ClientSessionCache: tls.NewLRUClientSessionCache(4), ServerName: "x"})
}

// attested is a connection on which the proof was given.
func (d *door) attested() (*tls.Conn, error) {
	c, err := d.dial(proof.ALPN)
	if err != nil {
		return nil, err
	}
	s, signature, err := proof.Ask(c, contract)
	if err == nil && (!s.Verify(c.ConnectionState().PeerCertificates[0].PublicKey, signature) || string(s.Checkpoint) != "checkpoint") {
		err = errors.New("the proof is no good")
	}
	return c, err
}

func app(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = ingressProtocols(true, true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func (d *door) do(method, path, contentType, body string) (status int, text string, h http.Header) {
	d.t.Helper()
	r, err := http.NewRequest(method, "http://room.example"+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	resp, err := d.client.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, string(raw), resp.Header
}

// TestPassesOn: what the application is told, and what is kept from it.
func TestPassesOn(t *testing.T) {
	d := open(t, "", nil, app(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Alt-Svc", `h3=":443"`)
		w.Header().Set("Keep-Alive", "timeout=9")
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, r.Method, " ", r.Host, " ", r.RequestURI, " ", string(body), " ", r.Header.Get("X-Forwarded-For"), " ", r.Header.Get("X-Forwarded-Proto"), " ", r.Header.Get("Forwarded"), r.Header.Get("Te"))
	}))
	r, _ := http.NewRequest("PUT", "http://room.example/a%2Fb;c?x=1;y", strings.NewReader("body"))
	for name, value := range map[string]string{"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1", "Te": "trailers", "Proxy-Authorization": "secret"} {
		r.Header.Set(name, value)
	}
	resp, err := d.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, _ := io.ReadAll(resp.Body)
	if want := "PUT room.example /a%2Fb;c?x=1;y body 127.0.0.1 https trailers"; string(got) != want {
		t.Errorf("the application saw %q, want %q", got, want)
	}
	if resp.Header.Get("Alt-Svc") != "" || resp.Header.Get("Keep-Alive") != "" {
		t.Errorf("headers of the connection come through: %v", resp.Header)
	}
}

// TestOrdinaryTLS: clients that ask for no proof are served too, at TLS 1.3, and
// never resumed.
func TestOrdinaryTLS(t *testing.T) {
	d := open(t, "", nil, app(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") }))
	cache := tls.NewLRUClientSessionCache(4)
	for range 2 {
		c, err := tls.Dial("tcp", d.address, &tls.Config{InsecureSkipVerify: true, ClientSessionCache: cache, ServerName: "x"})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
		got, err := io.ReadAll(c)
		if err != nil || !strings.HasSuffix(string(got), "hello") || c.ConnectionState().DidResume {
			t.Errorf("got %q, %v, resumed %v", got, err, c.ConnectionState().DidResume)
		}
		c.Close()
	}
	if _, err := tls.Dial("tcp", d.address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("TLS 1.2 is spoken")
	}
	h2 := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	defer h2.CloseIdleConnections()
	resp, err := h2.Get("https://" + d.address)
	if err != nil || resp.Proto != "HTTP/2.0" {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
}

func TestStreams(t *testing.T) {
	read := make(chan struct{})
	d := open(t, "", nil, app(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "first")
		w.(http.Flusher).Flush()
		<-read // the client has the first part while there is no second
		fmt.Fprint(w, "second")
	}))
	resp, err := d.client.Get("http://room.example/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	close(read)
	if rest, err := io.ReadAll(resp.Body); string(first)+string(rest) != "firstsecond" || err != nil {
		t.Errorf("%q %q %v", first, rest, err)
	}
}

// upgrade asks for a WebSocket and returns the status, and what comes back of
// "ping" after it.
func (d *door) upgrade(to string) (status int, echo string) {
	d.t.Helper()
	c, err := d.attested()
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: room\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", to)
	b := bufio.NewReader(c)
	resp, err := http.ReadResponse(b, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		fmt.Fprint(c, "ping")
		got := make([]byte, 4)
		if _, err := io.ReadFull(b, got); err != nil {
			d.t.Fatal(err)
		}
		echo = string(got)
	}
	return resp.StatusCode, echo
}

func TestWebSocket(t *testing.T) {
	echo := app(t, func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
		io.Copy(c, rw)
	})
	if status, got := open(t, spec.ProtocolWebSocket, nil, echo).upgrade("websocket"); status != 101 || got != "ping" {
		t.Errorf("%d, %q", status, got)
	}
	if status, _ := open(t, spec.ProtocolWebSocket, nil, echo).upgrade("h2c"); status != http.StatusForbidden {
		t.Errorf("another protocol: %d", status)
	}
	if status, _ := open(t, spec.ProtocolHTTP, nil, echo).upgrade("websocket"); status != http.StatusForbidden {
		t.Errorf("an endpoint without WebSockets: %d", status)
	}
	no := decide(func(in IngressInput) rego.Decision {
		return rego.Decision{Allow: in.Phase == phaseRequest && in.Request.Path != "/"}
	})
	if status, _ := open(t, spec.ProtocolWebSocket, no, echo).upgrade("websocket"); status != http.StatusForbidden {
		t.Errorf("a policy that says no: %d", status)
	}
}

// TestGRPC: streams both ways at once, and the status in the trailers.
func TestGRPC(t *testing.T) {
	d := open(t, spec.ProtocolGRPC, decide(func(in IngressInput) rego.Decision { return rego.Decision{Allow: true} }), app(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		io.Copy(flushing{w}, r.Body)
		w.Header().Set("Grpc-Status", "0")
	}))
	up, w := io.Pipe()
	r, _ := http.NewRequest("POST", "http://room.example/svc/Method", up)
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Te", "trailers")
	resp, err := d.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, message := range []string{"one..", "two.."} {
		io.WriteString(w, message)
		got := make([]byte, 5)
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != message {
			t.Fatalf("%q, %v", got, err)
		}
	}
	w.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.Trailer.Get("Grpc-Status") != "0" || resp.ProtoMajor != 2 {
		t.Errorf("%v, %v, trailers %v", resp.Proto, err, resp.Trailer)
	}
	if status, text, _ := d.do("POST", "/", "text/plain", "x"); status != http.StatusUnsupportedMediaType {
		t.Errorf("what is no gRPC: %d %s", status, text)
	}
}

type flushing struct{ http.ResponseWriter }

func (f flushing) Write(b []byte) (int, error) {
	n, err := f.ResponseWriter.Write(b)
	f.ResponseWriter.(http.Flusher).Flush()
	return n, err
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	c, err := open(t, spec.ProtocolTCP, nil, l.Addr().String()).attested()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "bytes")
	c.CloseWrite()
	if got, err := io.ReadAll(c); string(got) != "bytes" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestIngressPolicy: the exfiltration guard sees method, path, size, schema and rate, of
// request and response.
func TestIngressPolicy(t *testing.T) {
	guard := decide(func(in IngressInput) rego.Decision {
		var body struct{ Count *int }
		switch {
		case in.Endpoint != "api" || in.Client.Address != "127.0.0.1":
			return rego.Decision{Reason: "wrong input"}
		case in.Phase == phaseRequest && in.Client.Requests > 9:
			return rego.Decision{Reason: "too often"}
		case in.Phase == phaseRequest:
			return rego.Decision{Allow: in.Request.Method == "POST" && in.Request.Size >= 0 && in.Request.Size <= 21, Reason: "no such request"}
		case in.Response.Headers["x-more"] != nil || json.Unmarshal(in.Response.Body, &body) != nil || body.Count == nil:
			return rego.Decision{Reason: "only counts"}
		}
		return rego.Decision{Allow: in.Request.Path == "/count" && in.Response.Status == 200 && in.Response.Size < 20}
	})
	d := open(t, "", guard, app(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Trailer", "X-Late")
		if strings.HasPrefix(string(body), "early") {
			w.Header().Set("X-Early", "secret")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("X-Early")
		}
		fmt.Fprint(w, strings.TrimPrefix(string(body), "early"))
		w.(http.Flusher).Flush() // no length is said
		w.Header().Set("X-Late", "secret")
	}))
	for _, tc := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"POST", "/count", `{"count": 1}`, 200, `{"count": 1}`},
		{"POST", "/count", `early{"count": 1}`, 200, `{"count": 1}`},
		{"GET", "/count", "", 403, "no such request"},
		{"POST", "/count", strings.Repeat("x", 30), 403, "no such request"},
		{"POST", "/count", `{"name": "Ada"}`, 403, "only counts"},
		{"POST", "/count", `{"count":1,"count":2}`, 403, "only counts"},
		{"POST", "/all", `{"count": 1}`, 403, "does not let this response through"},
		{"POST", "/count", `not JSON`, 403, "only counts"},
	} {
		status, text, h := d.do(tc.method, tc.path, "", tc.body)
		if status != tc.status || !strings.Contains(text, tc.text) {
			t.Errorf("%s %s %q: %d %q, want %d %q", tc.method, tc.path, tc.body, status, text, tc.status, tc.text)
		}
		if h.Get("X-Early") != "" {
			t.Error("headers before the response come through")
		}
	}
	resp, err := d.client.Post("http://room.example/count", "", strings.NewReader(`{"count": 1}`))
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || len(resp.Trailer["X-Late"]) > 0 {
		t.Errorf("%d, trailers %v", resp.StatusCode, resp.Trailer)
	}
	if status, text, _ := d.do("POST", "/count", "", `{"count": 1}`); status != 403 || !strings.Contains(text, "too often") {
		t.Errorf("the tenth request in a minute: %d %q", status, text)
	}
}

// TestIngressPolicyThatFails: no decision is a no.
func TestIngressPolicyThatFails(t *testing.T) {
	d := open(t, "", decider(func([]byte) (rego.Decision, error) { return rego.Decision{Allow: true}, errors.New("broken") }),
		app(t, func(http.ResponseWriter, *http.Request) { t.Error("the application was asked") }))
	if status, text, _ := d.do("GET", "/", "", ""); status != 403 || !strings.Contains(text, "did not decide") {
		t.Errorf("%d %q", status, text)
	}
}

func TestApplicationIsAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	status, text, h := open(t, "", nil, l.Addr().String()).do("GET", "/", "", "")
	if status != 503 || h.Get("Retry-After") == "" || !strings.Contains(text, "does not listen") {
		t.Errorf("%d %q", status, text)
	}
}

// TestEndlessBody: a body that goes on for ever ends with an answer.
func TestEndlessBody(t *testing.T) {
	d := open(t, "", nil, app(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	d.ingress.maxBody = 1 << 20
	resp, err := d.client.Post("http://room.example/", "", zeros{})
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("got %d", resp.StatusCode)
		}
	}
	if status, _, _ := d.do("POST", "/", "", strings.Repeat("x", 2<<20)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body that says it is too long: %d", status)
	}
	if status, _, _ := d.do("POST", "/", "", "x"); status != 200 {
		t.Errorf("the next request: %d", status)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// TestManyClients: one address gets so many connections and no more; another is
// served meanwhile, and so is the first again when it lets go.
func TestManyClients(t *testing.T) {
	d := open(t, "", nil, app(t, func(w http.ResponseWriter, r *http.Request) {}))
	var conns []net.Conn
	for range ingressMaxOfOne {
		c, err := net.Dial("tcp", d.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	over, err := net.Dial("tcp", d.address)
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	if _, err := over.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("one connection too many: %v", err)
	}
	other := &tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}, Config: &tls.Config{InsecureSkipVerify: true}}
	c, err := other.Dial("tcp", d.address)
	if err != nil {
		t.Fatalf("another client: %v", err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
	if got, err := io.ReadAll(c); !bytes.HasPrefix(got, []byte("HTTP/1.0 200")) {
		t.Errorf("another client: %q, %v", got, err)
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// TestSlowClients: those that say nothing, or one byte of a head, are let go
// within ten seconds and some; others are served meanwhile.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	d := open(t, "", nil, app(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") }))
	silent, err := net.Dial("tcp", d.address)
	if err != nil {
		t.Fatal(err)
	}
	noNonce, err := d.dial(proof.ALPN)
	if err != nil {
		t.Fatal(err)
	}
	slow, err := d.attested()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(slow, "GET / HTTP/1.1\r\nHost: ")
	if status, text, _ := d.do("GET", "/", "", ""); status != 200 || text != "hello" {
		t.Errorf("%d %q", status, text)
	}
	for name, c := range map[string]net.Conn{"silent": silent, "no nonce": noNonce, "slow head": slow} {
		defer c.Close()
		c.SetReadDeadline(time.Now().Add(60 * time.Second)) // patience, not a measure
		if _, err := io.Copy(io.Discard, c); isTimeout(err) {
			t.Errorf("%s: it is not let go", name)
		}
	}
	d.records(map[string]uint64{"api handshake": 2, "api unreadable": 1})
}

// TestFlood: a hundred thousand requests of which a quarter is refused, and
// nothing is left of them.
func TestFlood(t *testing.T) {
	d := open(t, "", nil, app(t, func(w http.ResponseWriter, r *http.Request) {}))
	const each, workers = 3125, 32
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			c, err := d.attested()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			b := bufio.NewReader(c)
			head, want := "GET / HTTP/1.1\r\nHost: room\r\n\r\n", 200
			if i%4 == 0 {
				head, want = "GET / HTTP/1.1\r\nHost: room\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n", 403
			}
			for range each {
				io.WriteString(c, head)
				resp, err := http.ReadResponse(b, nil)
				if err != nil || resp.StatusCode != want {
					t.Errorf("%v, %v", resp, err)
					return
				}
				io.Copy(io.Discard, resp.Body)
			}
		})
	}
	all.Wait()
	if got := d.ingress.refused.total(); got != each*workers/4 {
		t.Errorf("%d refusals are counted, want %d", got, each*workers/4)
	}
}

// TestClose: a request on its way is finished, and no other is taken.
func TestClose(t *testing.T) {
	asked, proceed := make(chan struct{}), make(chan struct{})
	d := open(t, "", nil, app(t, func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-proceed
		fmt.Fprint(w, "done")
	}))
	answer := make(chan string)
	go func() {
		_, text, _ := d.do("GET", "/", "", "")
		answer <- text
	}()
	<-asked
	closed := make(chan error)
	go func() { closed <- d.ingress.Close(t.Context()) }()
	close(proceed)
	if text := <-answer; text != "done" {
		t.Errorf("got %q", text)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := d.attested(); err == nil {
		t.Error("a connection is taken after the end")
	}
}
