package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"cloister/attested"
	"cloister/attested/proof"
	ingress "cloister/enclave/proxy"
	"cloister/enclave/snp"
	"cloister/enclave/snp/simulated"
	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"
	"cloister/policy/spec"
)

// ingressRows is an endpoint of a clean room before an application that answers
// 1 KiB, called by wrk over TLS. All but wrk is in this process, so that what is
// compared differs in the endpoint alone.
func ingressRows() []row {
	return []row{
		{"call of an endpoint, median latency", "ms", side{"", wrkLatency(ourEndpoint)}, []reference{
			{side{"the application over TLS", wrkLatency(bareApplication)}, beyond(0.3, "ms")},
			{side{"net/http/httputil proxy", wrkLatency(bareProxy)}, shown}}},
		{"calls of an endpoint, 32 at once", "/s", side{"", wrkRate(ourEndpoint)}, []reference{
			{side{"net/http/httputil proxy", wrkRate(bareProxy)}, atLeast(0.7)}}},
		{"attested handshake, evidence known", "ms", side{"", attestedHandshake}, []reference{
			{side{"TLS 1.3 handshake", plainHandshake}, atMost(2)}}},
	}
}

// entrance is what is called.
type entrance func(l *entrances) string

// entrances are ways to one application, and the client of the attested one.
type entrances struct {
	application, tlsApplication, proxy *httptest.Server
	ecdsa                              *httptest.Server // with a certificate of a key like ours
	ours                               string           // address
	client                             *attested.Client
}

func ourEndpoint(e *entrances) string     { return "https://" + e.ours }
func bareApplication(e *entrances) string { return e.tlsApplication.URL }
func bareProxy(e *entrances) string       { return e.proxy.URL }

var silent = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)

// openEntrances makes all of them.
func (l *lab) openEntrances() (*entrances, error) {
	answer := bytes.Repeat([]byte("x"), 1<<10)
	say := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) })
	e := &entrances{application: httptest.NewServer(say), tlsApplication: httptest.NewUnstartedServer(say)}
	e.tlsApplication.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	e.tlsApplication.StartTLS()
	target, err := url.Parse(e.application.URL)
	if err != nil {
		return nil, err
	}
	e.proxy = httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 256},
		ErrorLog:  silent, // wrk leaves in the middle of a request
	})
	e.proxy.Config.ErrorLog, e.tlsApplication.Config.ErrorLog = silent, silent
	e.proxy.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	e.proxy.StartTLS()
	if e.ecdsa, err = ecdsaServer(say); err != nil {
		return nil, err
	}
	l.atEnd(func() error {
		e.ecdsa.Close()
		e.proxy.Close()
		e.tlsApplication.Close()
		e.application.Close()
		return nil
	})
	return e, l.openIngress(e, target.Host)
}

// ecdsaServer answers TLS 1.3 with an ordinary certificate of a P-256 key.
func ecdsaServer(h http.Handler) (*httptest.Server, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"example.com"}, NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = silent
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
	s.StartTLS()
	return s, nil
}

// openIngress is an endpoint with the evidence of a simulated processor.
func (l *lab) openIngress(e *entrances, target string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	id := snp.Identity{ContractDigest: [32]byte{1}, AuditKey: []byte("none")}
	if id.TLSKey, err = x509.MarshalPKIXPublicKey(&key.PublicKey); err != nil {
		return err
	}
	evidence, want, err := l.simulate(id)
	if err != nil {
		return err
	}
	cert, err := proof.Certificate(key, proof.NewEvidence(id, evidence))
	if err != nil {
		return err
	}
	g, err := ingress.NewIngress(ingress.IngressConfig{
		Endpoint: spec.Endpoint{Name: "bench"}, Log: slog.New(slog.DiscardHandler),
		Identity: ingress.IngressIdentity{Certificate: cert, Contract: id.ContractDigest, Checkpoint: func() []byte { return nil }},
		Dial:     func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", target) },
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go g.Serve(listener)
	l.atEnd(func() error { return g.Close(context.Background()) })
	e.ours, e.client = listener.Addr().String(), attested.New(want)
	return nil
}

// guestPolicy is the container policy of the guest.
var guestPolicy = []byte("package policy\n")

// guest launches a container on a processor of its own, and returns its directory.
func (l *lab) guest() (string, error) {
	dir, err := l.newDir("processor")
	if err != nil {
		return "", err
	}
	p, err := platform.Load(wire.Keys{Dir: dir})
	if err != nil {
		return "", err
	}
	guest, err := p.Launch(filepath.Join(dir, "guest"), platform.GuestConfig{Policy: guestPolicy})
	if err != nil {
		return "", err
	}
	l.atEnd(guest.Close)
	return guest.Dir, nil
}

func (l *lab) simulate(id snp.Identity) (*snp.Evidence, attested.Expect, error) {
	var want attested.Expect
	guest, err := l.guest()
	if err != nil {
		return nil, want, err
	}
	machine := simulated.New(guest)
	evidence, err := snp.Collect(context.Background(), machine, id)
	if err != nil {
		return nil, want, err
	}
	anchors, err := machine.Anchors()
	want = attested.Expect{Contract: id.ContractDigest, HostData: evidence.HostData(),
		Platform: snp.Expectations{Anchors: anchors, SMT: snp.SMTAllowed, MinTCB: snp.BaseFloors(), MinUVMSVN: 100}}
	return evidence, want, err
}

var (
	wrkMedian  = regexp.MustCompile(`(?m)^\s+50%\s+(\S+)$`)
	wrkPerSec  = regexp.MustCompile(`(?m)^Requests/sec:\s+([0-9.]+)$`)
	wrkTrouble = regexp.MustCompile(`(?m)^\s*(Socket errors|Non-2xx).*$`)
)

// wrk calls an entrance for three seconds and returns what it says.
func wrk(ctx context.Context, l *lab, to entrance, args ...string) (string, error) {
	e, err := l.entrances()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "wrk", append(args, "--latency", "-d3s", to(e))...)
	out, err := cmd.CombinedOutput()
	if trouble := wrkTrouble.Find(out); err != nil || trouble != nil {
		return "", fmt.Errorf("wrk: %v %s; `make bench` installs it", err, trouble)
	}
	return string(out), nil
}

func wrkLatency(to entrance) attempt {
	return func(ctx context.Context, l *lab) (float64, error) {
		out, err := wrk(ctx, l, to, "-t1", "-c1")
		if err != nil {
			return 0, err
		}
		m := wrkMedian.FindStringSubmatch(out)
		if m == nil {
			return 0, fmt.Errorf("wrk says no median: %s", out)
		}
		d, err := time.ParseDuration(m[1])
		return float64(d.Microseconds()) / 1000, err
	}
}

func wrkRate(to entrance) attempt {
	return func(ctx context.Context, l *lab) (float64, error) {
		out, err := wrk(ctx, l, to, "-t1", "-c32")
		if err != nil {
			return 0, err
		}
		m := wrkPerSec.FindStringSubmatch(out)
		if m == nil {
			return 0, fmt.Errorf("wrk says no rate: %s", out)
		}
		var rate float64
		_, err = fmt.Sscan(m[1], &rate)
		return rate, err
	}
}

// handshakes is how many the median of one attempt is of.
const handshakes = 200

// attestedHandshake is connecting, TLS and the exchange, by a client that has
// judged the evidence before.
func attestedHandshake(ctx context.Context, l *lab) (float64, error) {
	e, err := l.entrances()
	if err != nil {
		return 0, err
	}
	return medianOf(handshakes, func() (io.Closer, error) { return e.client.DialContext(ctx, "tcp", e.ours) })
}

// plainHandshake is connecting and TLS 1.3, with a key of the same kind.
func plainHandshake(_ context.Context, l *lab) (float64, error) {
	e, err := l.entrances()
	if err != nil {
		return 0, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(e.ecdsa.Certificate())
	config := &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS13}
	address := strings.TrimPrefix(e.ecdsa.URL, "https://")
	return medianOf(handshakes, func() (io.Closer, error) { return tls.Dial("tcp", address, config) })
}

// medianOf opens and closes so often, and returns the median in milliseconds.
func medianOf(n int, open func() (io.Closer, error)) (float64, error) {
	var took []float64
	for range n + 1 {
		began := time.Now()
		c, err := open()
		if err != nil {
			return 0, err
		}
		took = append(took, time.Since(began).Seconds()*1000)
		c.Close()
	}
	return median(took[1:]), nil // the first judges the evidence
}
