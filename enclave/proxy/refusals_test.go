package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cloister/enclave/rego"
	"cloister/governance/statement"
	"cloister/policy/spec"
)

// raw says something on an attested connection, and returns what comes back until
// its end, which has to come.
func (d *door) raw(said string) string {
	d.t.Helper()
	c, err := d.attested()
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, said)
	c.SetReadDeadline(time.Now().Add(60 * time.Second)) // patience, not a measure
	got, err := io.ReadAll(c)
	if isTimeout(err) {
		d.t.Errorf("%.60q is not let go", said)
	}
	return string(got)
}

// recorded is what the endpoint's refusals are in a record.
func (d *door) recorded() map[string]uint64 {
	d.t.Helper()
	all := map[string]uint64{}
	if err := ReportIngress(d.t.Context(), []*Ingress{d.ingress}, func(_ context.Context, list []statement.IngressRefusal) error {
		for _, r := range list {
			all[r.Endpoint+" "+r.Reason] += r.Count
		}
		return nil
	}); err != nil {
		d.t.Error(err)
	}
	return all
}

func (d *door) records(want map[string]uint64) {
	d.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(time.Millisecond) { // a connection is counted once it is closed
		d.ingress.refused.mu.Lock()
		all := sum(d.ingress.refused.counts) >= sum(want)
		d.ingress.refused.mu.Unlock()
		if all || time.Now().After(deadline) {
			break
		}
	}
	if got := d.recorded(); !maps.Equal(got, want) {
		d.t.Errorf("recorded are %v, want %v", got, want)
	}
}

func sum(counts map[string]uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// TestRefusalsAreCounted: each reason has its count, taken once.
func TestRefusalsAreCounted(t *testing.T) {
	no := decide(func(in IngressInput) rego.Decision {
		return rego.Decision{Allow: in.Request.Path != "/refused" && (in.Phase == phaseRequest || in.Request.Path != "/kept")}
	})
	d := open(t, "", no, app(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			panic(http.ErrAbortHandler)
		}
	}))
	d.ingress.Runtime = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "who?", http.StatusUnauthorized)
	})
	d.ingress.maxBody = 8
	for _, path := range []string{"/refused", "/refused", "/kept", "/broken", "/fine", RuntimePath + "job"} {
		d.do("GET", path, "", "")
	}
	d.do("POST", "/long", "", "123456789")
	d.raw("GET / HTTP/1.1\r\nHost: room\r\nConnection: close, Upgrade\r\nUpgrade: other\r\n\r\n")
	d.raw("this is no request, whatever else it is\r\n\r\n")
	d.raw("GET / HTTP/1.1\r\nHost: room\r\nX: " + strings.Repeat("x", 2*ingressMaxHeader) + "\r\n\r\n")
	plain, err := net.Dial("tcp", d.address)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	fmt.Fprint(plain, "GET / HTTP/1.1\r\n\r\n")
	if _, err := io.Copy(io.Discard, plain); isTimeout(err) {
		t.Error("what is no TLS is not let go")
	}
	want := map[string]uint64{"api refused-by-policy": 2, "api kept-by-policy": 1, "api unanswered": 1, "api unsigned": 1, "api too-large": 1, "api protocol": 1, "api handshake": 1, "api unreadable": 2}
	d.records(want)
	if got := d.recorded(); len(got) > 0 {
		t.Errorf("recorded again: %v", got)
	}
}

// TestRefusalsAreKept: what the ledger does not take is told the next time, in
// order and in as many statements as it takes.
func TestRefusalsAreKept(t *testing.T) {
	var endpoints []*Ingress
	for i := range 30 {
		g := &Ingress{IngressConfig: IngressConfig{Endpoint: spec.Endpoint{Name: fmt.Sprintf("e%02d", i)}}}
		for _, reason := range []string{statement.IngressPolicy, statement.IngressHandshake, statement.IngressHandshake, statement.IngressCrowded} {
			g.refused.add(reason)
		}
		endpoints = append(endpoints, g)
	}
	var taken []statement.IngressRefusal
	calls := 0
	record := func(_ context.Context, list []statement.IngressRefusal) error {
		if calls++; calls == 2 {
			return errors.New("the ledger is away")
		}
		if len(list) > statement.MaxIngress {
			t.Errorf("%d in one statement", len(list))
		}
		taken = append(taken, list...)
		return nil
	}
	if err := ReportIngress(t.Context(), endpoints, record); err == nil {
		t.Fatal("what was not recorded is reported as such")
	}
	endpoints[29].refused.add(statement.IngressPolicy)
	if err := ReportIngress(t.Context(), endpoints, record); err != nil {
		t.Fatal(err)
	}
	all, seen := uint64(0), map[string]bool{}
	for i, r := range taken {
		all += r.Count
		if seen[r.Endpoint+r.Reason] || i > 0 && taken[i-1].Compare(r) >= 0 {
			t.Errorf("%+v is there twice, or out of order", r)
		}
		seen[r.Endpoint+r.Reason] = true
	}
	if all != 30*4+1 || len(taken) != 90 {
		t.Errorf("%d refusals in %d lines", all, len(taken))
	}
}

// TestStalledBody: a body that does not go on is given up, whoever it is for, and
// the connection is let go; others are served meanwhile.
func TestStalledBody(t *testing.T) {
	d := open(t, "", nil, app(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	d.ingress.stall = 100 * time.Millisecond
	const head = "POST / HTTP/1.1\r\nHost: room\r\nContent-Length: 10\r\n"
	d.raw(head + "\r\n12") // answered by the endpoint, or by the application that lost it
	// One that nobody reads holds nothing up either.
	if got := d.raw(head + "Connection: Upgrade\r\nUpgrade: other\r\n\r\n12"); !strings.HasPrefix(got, "HTTP/1.1 403 ") {
		t.Errorf("got %q", got)
	}
	if status, text, _ := d.do("POST", "/", "", "whole"); status != 200 || text != "whole" {
		t.Errorf("another client: %d %q", status, text)
	}
	d.records(map[string]uint64{"api stalled": 1, "api protocol": 1})
}

// TestTakesNothing: who does not take what he asked for is let go, and so is the
// application.
func TestTakesNothing(t *testing.T) {
	ended := make(chan struct{})
	d := open(t, "", nil, app(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		for chunk := make([]byte, 1<<20); ; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	d.ingress.stall = 100 * time.Millisecond
	c, err := d.attested()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: room\r\n\r\n")
	select {
	case <-ended:
	case <-time.After(60 * time.Second):
		t.Error("the application still answers")
	}
}

// TestSilentApplication: one that does not begin its answer in time is given up, and
// not waited for by others.
func TestSilentApplication(t *testing.T) {
	given := make(chan struct{})
	d := open(t, "", nil, app(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/silent" {
			<-r.Context().Done()
			close(given)
		}
	}))
	d.ingress.dialled.ResponseHeaderTimeout = 100 * time.Millisecond
	if status, text, _ := d.do("GET", "/silent", "", ""); status != http.StatusGatewayTimeout || !strings.Contains(text, "in time") {
		t.Errorf("%d %q", status, text)
	}
	<-given // the application is told
	d.records(map[string]uint64{"api unanswered": 1})
}

// TestIdleTCP: a connection in which nothing passes any more ends at both ends.
func TestIdleTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, err = io.Copy(c, c)
		ended <- err
	}()
	d := open(t, spec.ProtocolTCP, nil, l.Addr().String())
	d.ingress.idle = time.Second
	c, err := d.attested()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "ping")
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "ping" {
		t.Fatalf("%q, %v", got, err)
	}
	c.SetReadDeadline(time.Now().Add(60 * time.Second)) // patience, not a measure
	if _, err := c.Read(got); err == nil || isTimeout(err) {
		t.Errorf("the client's end goes on: %v", err)
	}
	<-ended
}

// held is a connection whose end takes until it is let go.
type held struct {
	net.Conn
	ending chan struct{}
	letGo  chan struct{}
}

func (h *held) Close() error {
	select {
	case h.ending <- struct{}{}:
	default:
	}
	<-h.letGo
	return h.Conn.Close()
}

// TestEgressCloseWaits: nothing passes through a tunnel any more once the proxy is
// closed.
func TestEgressCloseWaits(t *testing.T) {
	w := newWorld(t)
	e, at := w.serve(list(spec.ProxyOpen, "api.example:80"), nil)
	up := &held{ending: make(chan struct{}, 1), letGo: make(chan struct{})}
	dial := e.Dial
	e.Dial = func(ctx context.Context, network, address string) (c net.Conn, err error) {
		if up.Conn, err = dial(ctx, network, address); err != nil {
			return nil, err
		}
		return up, nil
	}
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "CONNECT api.example:80 HTTP/1.1\r\nHost: api.example:80\r\n\r\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, " 200 ") {
		t.Fatalf("%q, %v", line, err)
	}
	closed := make(chan struct{})
	go func() { e.Close(); close(closed) }()
	<-up.ending
	select {
	case <-closed:
		t.Error("the proxy is closed while a tunnel is not")
	case <-time.After(50 * time.Millisecond): // to let it be wrong
	}
	close(up.letGo)
	<-closed
}

// TestNoAddressInErrors: the application is not told to which address a name was
// resolved.
func TestNoAddressInErrors(t *testing.T) {
	for _, mode := range []string{spec.ProxySecure, spec.ProxyOpen} {
		w := newWorld(t)
		e, at := w.serve(list(mode, "api.example:81", "api.example:82", "api.example:83", "nowhere.example:80"), nil)
		gone, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		gone.Close()
		e.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			switch {
			case strings.HasSuffix(address, ":81"):
				return (&net.Dialer{}).DialContext(ctx, network, gone.Addr().String())
			case strings.HasSuffix(address, ":82"):
				return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: gone.Addr(), Err: context.DeadlineExceeded}
			}
			return nil, fmt.Errorf("dialling %s: no route", address)
		}
		for target, want := range map[string]string{"api.example:81": "refuses", "api.example:82": "does not answer", "api.example:83": "reaching the host", "nowhere.example:80": "has no address"} {
			status, body := w.get(w.client(e, at), "http://"+target+"/")
			if status/100 != 5 || !strings.Contains(body, want) || strings.Contains(body, "127.0.0.1") || strings.Contains(body, outside) {
				t.Errorf("%s %s: %d %s", mode, target, status, body)
			}
			if mode != spec.ProxyOpen {
				continue
			}
			c, err := net.Dial("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", target, target)
			if got, _ := io.ReadAll(c); !strings.Contains(string(got), want) || strings.Contains(string(got), "127.0.0.1") || strings.Contains(string(got), outside) {
				t.Errorf("%s: %q", target, got)
			}
		}
	}
}
