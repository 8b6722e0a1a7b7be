package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloister/enclave/rego"
	"cloister/governance/statement"
	"cloister/policy/spec"
)

// world is what is outside: servers on loopback that stand, as far as the proxy
// can tell, at 192.0.2.1 (RFC 5737), and names that resolve as a test says.
type world struct {
	t        *testing.T
	plain    *httptest.Server
	secure   *httptest.Server
	mu       sync.Mutex // guards what follows
	names    map[string][]string
	resolved []string
	dialled  []string
	recorded []statement.EgressDecision
	refuse   error // what the ledger says
	heard    []*http.Request
}

const outside = "192.0.2.1"

func newWorld(t *testing.T) *world {
	w := &world{t: t, names: map[string][]string{"api.example.": {outside}, "other.example.": {outside}}}
	w.plain = httptest.NewServer(http.HandlerFunc(w.hear))
	w.secure = httptest.NewTLSServer(http.HandlerFunc(w.hear))
	t.Cleanup(w.plain.Close)
	t.Cleanup(w.secure.Close)
	return w
}

func (w *world) hear(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.heard = append(w.heard, r.Clone(context.Background()))
	w.mu.Unlock()
	switch r.URL.Path {
	case "/redirect":
		http.Redirect(rw, r, "http://169.254.169.254/metadata/identity/oauth2/token", http.StatusFound)
	case "/echo":
		_, _ = io.Copy(rw, r.Body)
	default:
		fmt.Fprintf(rw, "%s %s %s", r.Method, r.Host, r.URL.RequestURI())
	}
}

func (w *world) resolve(_ context.Context, host string) (found []netip.Addr, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resolved = append(w.resolved, host)
	for _, a := range w.names[host] {
		found = append(found, netip.MustParseAddr(a))
	}
	return found, nil
}

func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	w.dialled = append(w.dialled, address)
	w.mu.Unlock()
	to := map[string]string{outside + ":80": w.plain.Listener.Addr().String(), outside + ":443": w.secure.Listener.Addr().String()}[address]
	if to == "" {
		return nil, fmt.Errorf("nobody is at %s", address)
	}
	return (&net.Dialer{}).DialContext(ctx, network, to)
}

func (w *world) record(_ context.Context, d []statement.EgressDecision) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return w.refuse
	}
	w.recorded = append(w.recorded, d...)
	return nil
}

func (w *world) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(w.secure.Certificate())
	return pool
}

// serve serves a proxy for a network, and returns it with its address.
func (w *world) serve(n spec.Network, judge Judge) (*Egress, string) {
	w.t.Helper()
	e, err := NewEgress(EgressConfig{Network: n, Policy: judge, Roots: w.roots(), Record: w.record, Resolve: w.resolve, Dial: w.dial, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close(); e.Close() })
	go e.Serve(l)
	return e, l.Addr().String()
}

// client is an ordinary client that is told of the proxy and its authority.
func (w *world) client(e *Egress, at string) *http.Client {
	pool := w.roots()
	if pem := e.Certificate(); pem != nil {
		pool = x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
	}
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: at}), TLSClientConfig: &tls.Config{RootCAs: pool}}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (w *world) get(c *http.Client, target string) (int, string) {
	w.t.Helper()
	resp, err := c.Get(target)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Error(err)
	}
	return resp.StatusCode, string(body)
}

// count is how often a decision was recorded, about a destination or none.
func (w *world) count(e *Egress, decision, host string, port uint32) (n uint64) {
	w.t.Helper()
	if err := e.Report(w.t.Context()); err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.recorded {
		if d.Decision == decision && d.Host == host && d.Port == port {
			n += d.Count
		}
	}
	return n
}

func list(proxy string, destinations ...string) spec.Network {
	n := spec.Network{Egress: spec.EgressList, Proxy: proxy}
	for _, d := range destinations {
		to, err := destinationOf(d)
		if err != nil {
			panic(err)
		}
		n.Allow = append(n.Allow, to)
	}
	return n
}

// TestListed: what is on the list is reached, in both modes, over TLS and without;
// the record names it.
func TestListed(t *testing.T) {
	for _, mode := range []string{spec.ProxySecure, spec.ProxyOpen, ""} {
		w := newWorld(t)
		// httptest's certificate is for example.com.
		w.names["example.com."] = []string{outside}
		e, at := w.serve(list(mode, "api.example:80", "example.com:443"), nil)
		c := w.client(e, at)
		for target, want := range map[string]string{
			"http://api.example/a%2Fb?q=%zz&x": "GET api.example /a%2Fb?q=%zz&x",
			"https://example.com/c":            "GET example.com /c",
		} {
			for range 2 {
				if status, body := w.get(c, target); status != http.StatusOK || body != want {
					t.Errorf("%s %s: %d %q, want %q", mode, target, status, body, want)
				}
			}
		}
		if n := w.count(e, Allowed, "api.example", 80); n != 2 {
			t.Errorf("%s: %d requests are recorded", mode, n)
		}
		// A tunnel that is open is decided about once.
		if n := w.count(e, Allowed, "example.com", 443); n != 2 && (mode != spec.ProxyOpen || n != 1) {
			t.Errorf("%s: %d requests over TLS are recorded", mode, n)
		}
	}
}

// TestNotListed: nothing leaves for what is not on the list, not even a question
// to a name server, and the record does not say what the application asked for.
func TestNotListed(t *testing.T) {
	for _, mode := range []string{spec.ProxySecure, spec.ProxyOpen} {
		w := newWorld(t)
		e, at := w.serve(list(mode, "api.example:80"), nil)
		targets := []string{
			"http://other.example/", "http://api.example:81/", "https://api.example/", "http://secret-of-the-data.attacker.example/",
			"http://169.254.169.254/metadata", "http://127.0.0.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://localhost/",
			"https://169.254.169.254/", "https://127.0.0.1:8446/ledger", "http://192.0.2.1/", "http://xapi.example/", "http://api.example.attacker.example/",
		}
		c := w.client(e, at)
		for _, target := range targets {
			if status, body := w.get(c, target); status == http.StatusOK || status == 0 && !strings.Contains(body, "Forbidden") && !strings.Contains(body, "Bad Request") {
				t.Errorf("%s %s: %d %s", mode, target, status, body)
			}
		}
		if len(w.resolved) > 0 || len(w.dialled) > 0 {
			t.Errorf("%s: asked for %q, connected to %q", mode, w.resolved, w.dialled)
		}
		if n := w.count(e, NotListed, "", 0); n != uint64(len(targets)) {
			t.Errorf("%s: %d of %d are recorded", mode, n, len(targets))
		}
		if said := fmt.Sprint(w.recorded); strings.Contains(said, "secret") {
			t.Errorf("the record passes on what the application says: %s", said)
		}
	}
}

// TestForbiddenAddress: a name on the list that resolves to where nobody's service
// is, or also there, reaches nothing.
func TestForbiddenAddress(t *testing.T) {
	own := ownAddress(t)
	for _, address := range []string{
		"127.0.0.1", "127.8.8.8", "169.254.169.254", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "fe80::1", "ff02::1", "224.0.0.1",
		"255.255.255.255", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1", "168.63.129.16", "fd00:ec2::254", "100.100.100.200", own,
	} {
		for _, mode := range []string{spec.ProxySecure, spec.ProxyOpen} {
			w := newWorld(t)
			w.names["api.example."] = []string{outside, address}
			e, at := w.serve(list(mode, "api.example:80"), nil)
			if status, body := w.get(w.client(e, at), "http://api.example/"); status != http.StatusForbidden {
				t.Errorf("%s: %d %s", address, status, body)
			}
			if answer := w.connect(at, "api.example:80"); mode == spec.ProxyOpen && !strings.Contains(answer, " 403 ") {
				t.Errorf("%s: %s", address, answer)
			}
			if len(w.dialled) > 0 {
				t.Errorf("%s: connected to %q", address, w.dialled)
			}
			if n := w.count(e, ForbiddenAddress, "api.example", 80); n == 0 {
				t.Errorf("%s is not recorded", address)
			}
		}
	}
}

func ownAddress(t *testing.T) string {
	t.Helper()
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range own {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	return "127.0.0.1" // it has no other
}

// connect asks for a tunnel and returns the answer's first line.
func (w *world) connect(at, target string) string {
	w.t.Helper()
	c, err := net.Dial("tcp", at)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	line, _ := bufio.NewReader(c).ReadString('\n')
	return line
}

// TestRebinding: a name is resolved for each connection, once, and what was
// looked at is what is connected to.
func TestRebinding(t *testing.T) {
	w := newWorld(t)
	e, at := w.serve(list(spec.ProxySecure, "api.example:80"), nil)
	c := w.client(e, at)
	if status, body := w.get(c, "http://api.example/"); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	w.mu.Lock()
	w.names["api.example."] = []string{"169.254.169.254"}
	w.mu.Unlock()
	e.upstream.CloseIdleConnections()
	if status, _ := w.get(c, "http://api.example/"); status != http.StatusForbidden {
		t.Errorf("after the name changed its mind: %d", status)
	}
	if len(w.resolved) != 2 || !slices.Equal(w.dialled, []string{outside + ":80"}) {
		t.Errorf("asked for %q, connected to %q", w.resolved, w.dialled)
	}
}

// TestRedirect: a redirect is an answer like another; who follows it is judged.
func TestRedirect(t *testing.T) {
	w := newWorld(t)
	e, at := w.serve(list(spec.ProxySecure, "api.example:80"), nil)
	c := w.client(e, at)
	if status, _ := w.get(c, "http://api.example/redirect"); status != http.StatusFound {
		t.Errorf("the redirect: %d", status)
	}
	c.CheckRedirect = nil
	if status, _ := w.get(c, "http://api.example/redirect"); status != http.StatusForbidden {
		t.Errorf("following it: %d", status)
	}
	if n := w.count(e, NotListed, "", 0); n != 1 {
		t.Errorf("%d are recorded", n)
	}
}

// TestTunnelIsRead: in secure mode what is in a tunnel is a request to the host
// that the tunnel is to, or nothing.
func TestTunnelIsRead(t *testing.T) {
	w := newWorld(t)
	w.names["example.com."] = []string{outside}
	_, at := w.serve(list(spec.ProxySecure, "example.com:443", "example.com:80"), nil)
	for _, tc := range []struct{ tunnel, sent, want string }{
		{"example.com:80", "GET /x HTTP/1.1\r\nHost: example.com\r\n\r\n", " 200 "},
		{"example.com:80", "GET /x HTTP/1.1\r\nHost: other.example\r\n\r\n", " 421 "},
		{"example.com:80", "GET http://other.example/x HTTP/1.1\r\nHost: example.com\r\n\r\n", " 400 "},
		{"example.com:80", "CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n", " 400 "},
		{"example.com:80", "GET /x HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n", " 403 "},
		{"example.com:80", "SSH-2.0-OpenSSH_9.2\r\n\r\n", " 400 "},
		{"example.com:443", "\x16\x03\x01\x00\x04junk", ""},
	} {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", tc.tunnel, tc.tunnel)
		r := bufio.NewReader(c)
		if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, " 200 ") {
			t.Fatalf("%s: %s, %v", tc.tunnel, line, err)
		}
		_, _ = r.ReadString('\n')
		fmt.Fprint(c, tc.sent)
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		line, err := r.ReadString('\n')
		if errors.Is(err, os.ErrDeadlineExceeded) || tc.want != "" && !strings.Contains(line, tc.want) || tc.want == "" && strings.HasPrefix(line, "HTTP/") {
			t.Errorf("%q: %q, %v; want %s", tc.sent, line, err, tc.want)
		}
		c.Close()
	}
	for _, r := range w.heard {
		if r.Host != "example.com" {
			t.Errorf("heard a request for %s", r.Host)
		}
	}
	// Whose certificate is not right is not reached.
	w.names["other.test."] = []string{outside}
	other, there := w.serve(list(spec.ProxySecure, "other.test:443"), nil)
	if status, body := w.get(w.client(other, there), "https://other.test/"); status != http.StatusBadGateway {
		t.Errorf("a server that is another: %d %s", status, body)
	}
}

// judgeFunc is a policy.
type judgeFunc func(Request) (rego.Decision, error)

func (f judgeFunc) Decide(_ context.Context, input any) (rego.Decision, error) {
	return f(input.(Request))
}

// TestPolicy: the policy sees each request whole, over TLS too, before there is a
// connection; an error is a no.
func TestEgressPolicy(t *testing.T) {
	w := newWorld(t)
	w.names["example.com."] = []string{outside}
	var seen []Request
	e, at := w.serve(spec.Network{Egress: spec.EgressPolicy}, judgeFunc(func(r Request) (rego.Decision, error) {
		seen = append(seen, r)
		if r.Path == "/error" {
			return rego.Decision{}, errors.New("the evaluation broke")
		}
		return rego.Decision{Allow: r.Path == "/public", Reason: "it is private"}, nil
	}))
	c := w.client(e, at)
	for _, scheme := range []string{"http", "https"} {
		for path, want := range map[string]int{"/public?q=1": 200, "/private": 403, "/error": 403} {
			req, err := http.NewRequest("POST", scheme+"://example.com"+path, strings.NewReader("12345"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Token", "t")
			resp, err := c.Do(req)
			if err != nil || resp.StatusCode != want {
				t.Fatalf("%s %s: %+v, %v", scheme, path, resp, err)
			}
			resp.Body.Close()
			r := seen[len(seen)-1]
			if r.Method != "POST" || r.Scheme != scheme || r.Host != "example.com" || r.Size != 5 || !slices.Equal(r.Headers["x-token"], []string{"t"}) || r.Port != map[string]uint32{"http": 80, "https": 443}[scheme] {
				t.Errorf("%s %s: the policy saw %+v", scheme, path, r)
			}
		}
	}
	if len(w.heard) != 2 || len(w.dialled) != 2 {
		t.Errorf("%d requests got out, over %d connections", len(w.heard), len(w.dialled))
	}
	if n := w.count(e, ByPolicy, "", 0); n != 4 {
		t.Errorf("%d refusals are recorded", n)
	}
	// A policy that lets all out lets nothing out to the platform.
	all, there := w.serve(spec.Network{Egress: spec.EgressPolicy}, judgeFunc(func(Request) (rego.Decision, error) { return rego.Decision{Allow: true}, nil }))
	for _, target := range []string{"http://169.254.169.254/", "http://127.0.0.1/", "http://[::ffff:169.254.169.254]/", "https://[::1]/", "http://2852039166/", "http://0x7f000001/", "http://127.1/", "http://0177.0.0.1/"} {
		if status, body := w.get(w.client(all, there), target); status != http.StatusForbidden && status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", target, status, body)
		}
	}
	if len(w.dialled) != 2 {
		t.Errorf("connected to %q", w.dialled)
	}
}

// TestRecordedFirst: where the ledger does not take the record nothing is reached,
// and once it does, it is.
func TestRecordedFirst(t *testing.T) {
	for _, mode := range []string{spec.ProxySecure, spec.ProxyOpen} {
		w := newWorld(t)
		w.refuse = errors.New("the ledger is away")
		e, at := w.serve(list(mode, "api.example:80"), nil)
		c := w.client(e, at)
		if status, _ := w.get(c, "http://api.example/"); status != http.StatusServiceUnavailable {
			t.Errorf("%s: %d", mode, status)
		}
		if line := w.connect(at, "api.example:80"); mode == spec.ProxyOpen && !strings.Contains(line, " 503 ") {
			t.Errorf("%s: %s", mode, line)
		}
		if len(w.dialled) > 0 {
			t.Errorf("%s: connected to %q", mode, w.dialled)
		}
		w.mu.Lock()
		w.refuse = nil
		w.mu.Unlock()
		if status, _ := w.get(c, "http://api.example/"); status != http.StatusOK {
			t.Errorf("%s: once it is back: %d", mode, status)
		}
	}
}

// TestRecordIsBounded: many requests make few lines.
func TestRecordIsBounded(t *testing.T) {
	w := newWorld(t)
	e, at := w.serve(list(spec.ProxySecure, "api.example:80"), nil)
	c := w.client(e, at)
	for i := range 300 {
		w.get(c, fmt.Sprintf("http://h%d.attacker.example/", i))
		w.get(c, "http://api.example/")
	}
	allowed, refused := w.count(e, Allowed, "api.example", 80), w.count(e, NotListed, "", 0)
	if allowed != 300 || refused != 300 || len(w.recorded) != 3 {
		t.Errorf("%d and %d in %d lines", allowed, refused, len(w.recorded))
	}
	any, there := w.serve(spec.Network{Egress: spec.EgressPolicy}, judgeFunc(func(Request) (rego.Decision, error) { return rego.Decision{Allow: true}, nil }))
	last, one := 0, w.client(any, there)
	for i := range maxDestinations + 1 {
		last, _ = w.get(one, fmt.Sprintf("http://h%d.example/", i))
	}
	if last != http.StatusServiceUnavailable {
		t.Errorf("destination %d: %d", maxDestinations+1, last)
	}
}

// TestHostile: who holds connections open without asking, sends heads that do not
// end or are too long, or bodies without end, gets no more than its place.
func TestHostile(t *testing.T) {
	w := newWorld(t)
	e, at := w.serve(list(spec.ProxySecure, "api.example:80"), nil)
	var held []net.Conn
	for range maxConnections - 1 {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "GET http://api.example/ HTTP/1.1\r\nX: ")
		held = append(held, c)
	}
	if status, body := w.get(w.client(e, at), "http://api.example/"); status != http.StatusOK {
		t.Errorf("beside them: %d %s", status, body)
	}
	for _, c := range held[:2] {
		c.Close()
	}
	long, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	fmt.Fprintf(long, "GET http://api.example/ HTTP/1.1\r\nHost: api.example\r\nX: %s\r\n\r\n", strings.Repeat("x", 2*maxHeader))
	if line, err := bufio.NewReader(long).ReadString('\n'); !strings.Contains(line, " 431 ") {
		t.Errorf("a long head: %q, %v", line, err)
	}
	// A body without end passes through as it comes, and ends with its sender.
	r, body := io.Pipe()
	go func() {
		chunk := make([]byte, 1<<20)
		for range 64 {
			if _, err := body.Write(chunk); err != nil {
				return
			}
		}
		body.CloseWithError(errors.New("the application went away"))
	}()
	resp, err := w.client(e, at).Post("http://api.example/echo", "application/octet-stream", r)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("half a body was passed on as a whole one")
	}
	for _, c := range held {
		c.Close()
	}
	if status, body := w.get(w.client(e, at), "http://api.example/"); status != http.StatusOK {
		t.Errorf("after them: %d %s", status, body)
	}
}

// TestEgressWebSocket: a request that is let through may become one, which ends
// with the proxy.
func TestEgressWebSocket(t *testing.T) {
	w, ended := newWorld(t), make(chan error, 1)
	w.plain.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		c, b, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		line, _ := b.ReadString('\n')
		fmt.Fprint(c, "heard "+line)
		_, err = b.ReadByte()
		ended <- err
	})
	e, at := w.serve(list(spec.ProxySecure, "api.example:80"), nil)
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET http://api.example/ HTTP/1.1\r\nHost: api.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v, %v", resp, err)
	}
	fmt.Fprint(c, "hello\n")
	if line, err := r.ReadString('\n'); err != nil || line != "heard hello\n" {
		t.Errorf("%q, %v", line, err)
	}
	e.Close()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the WebSocket goes on")
		}
	case <-time.After(10 * time.Second):
		t.Error("a WebSocket outlives the proxy")
	}
}

// FuzzParseDestination: a host that is taken is one that the list would write, and
// no address in other clothes.
func FuzzParseDestination(f *testing.F) {
	for _, s := range []string{"api.example", "127.0.0.1", "::1", "::ffff:127.0.0.1", "2130706433", "0x7f.1", "API.example.", "a b", "fe80::1%eth0"} {
		f.Add(s, "80")
	}
	f.Fuzz(func(t *testing.T, host, port string) {
		d, ok := parseDestination(host, port)
		if !ok {
			return
		}
		if again, ok := parseDestination(d.Host, fmt.Sprint(d.Port)); !ok || again != d {
			t.Errorf("%q is %+v, and that is %+v", host, d, again)
		}
		if ip := net.ParseIP(d.Host); ip != nil && ip.String() != d.Host {
			t.Errorf("%q is the address %q, which is written %s", host, d.Host, ip)
		}
	})
}
