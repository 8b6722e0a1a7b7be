package attested

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloister/attested/proof"
	"cloister/enclave/snp"
	"cloister/enclave/snp/simulated"
	"cloister/internal/fault"
	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"
)

// processor is one simulated processor for all tests: its keys take a second.
var processor = sync.OnceValues(func() (*platform.Platform, error) {
	dir, err := filepath.Abs(testDir)
	if err != nil {
		return nil, err
	}
	return platform.Load(wire.Keys{Dir: dir})
})

var policy = []byte("package policy\n")

// enclave is a machine with a run on it.
type enclave struct {
	t        *testing.T
	machine  simulated.Platform
	key      *ecdsa.PrivateKey
	id       snp.Identity
	evidence *snp.Evidence
}

func newEnclave(t *testing.T, guest platform.GuestConfig) *enclave {
	t.Helper()
	p, err := processor()
	if err != nil {
		t.Fatal(err)
	}
	guest.Policy = policy
	g, err := p.Launch(filepath.Join(t.TempDir(), "guest"), guest)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	e := &enclave{t: t, machine: simulated.New(g.Dir), key: newKey(t)}
	e.id = snp.Identity{RunID: [16]byte{1, 2}, ContractDigest: [32]byte{3}, AuditKey: []byte("audit"), TLSKey: spki(t, e.key)}
	if e.evidence, err = snp.Collect(t.Context(), e.machine, e.id); err != nil {
		t.Fatal(err)
	}
	return e
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func spki(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// expect is what a client of this enclave expects.
func (e *enclave) expect() Expect {
	anchors, err := e.machine.Anchors()
	if err != nil {
		e.t.Fatal(err)
	}
	sc := snp.SecurityContext{Policy: policy}
	return Expect{Contract: e.id.ContractDigest, HostData: sc.HostData(), Platform: snp.Expectations{
		Anchors: anchors, SMT: snp.SMTAllowed, MinTCB: snp.BaseFloors(), MinUVMSVN: 100}}
}

func (e *enclave) config(key *ecdsa.PrivateKey) *tls.Config {
	cert, err := proof.Certificate(key, proof.NewEvidence(e.id, e.evidence))
	if err != nil {
		e.t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{proof.ALPN}, SessionTicketsDisabled: true}
}

// serve answers connections until the test ends; then is called with each once
// its handshake is made, and then closed.
func serve(t *testing.T, config *tls.Config, then func(*tls.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer raw.Close()
				if c := tls.Server(raw, config); c.Handshake() == nil {
					then(c)
				}
			}()
		}
	}()
	return l.Addr().String()
}

// honest answers the nonce and says what it is sent.
func (e *enclave) honest(c *tls.Conn) {
	if proof.Answer(c, e.key, e.id.ContractDigest, []byte("a checkpoint")) == nil {
		io.Copy(c, c)
	}
}

// sent returns what came back after "hello" was sent.
func sent(t *testing.T, e Expect, address string) (string, error) {
	t.Helper()
	c, err := New(e).DialContext(t.Context(), "tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "hello"); err != nil {
		return "", err
	}
	got := make([]byte, 5)
	_, err = io.ReadFull(c, got)
	return string(got), err
}

func TestTalksToWhatIsExpected(t *testing.T) {
	e := newEnclave(t, platform.GuestConfig{})
	want := e.expect()
	want.Run = hex.EncodeToString(e.id.RunID[:])
	want.Checkpoint = func(signed []byte) error {
		if string(signed) != "a checkpoint" {
			return errors.New("another checkpoint")
		}
		return nil
	}
	got, err := sent(t, want, serve(t, e.config(e.key), e.honest))
	if got != "hello" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
}

// refused asserts that nothing was sent, and why.
func refused(t *testing.T, e Expect, address, why string) {
	t.Helper()
	_, err := sent(t, e, address)
	if err == nil || fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), why) {
		t.Errorf("got %v, want a refusal that says %q", err, why)
	}
}

// TestForeignEvidence: each machine that is not the agreed one.
func TestForeignEvidence(t *testing.T) {
	for why, guest := range map[string]platform.GuestConfig{
		"debugging: expected false":    {Debug: true},
		"migration: expected false":    {Migration: true},
		"VMPL: expected 0, got 2":      {VMPL: 2},
		"host data: expected":          {WrongHostData: true},
		"launch measurement: expected": {WrongMeasurement: true},
		"UVM SVN: expected at least":   {LowSVN: true},
		"revocation: expected":         {Revoked: true},
		"report data: expected":        {Replay: true},
	} {
		t.Run(why, func(t *testing.T) {
			e := newEnclave(t, guest)
			refused(t, e.expect(), serve(t, e.config(e.key), e.honest), why)
		})
	}
}

func TestAnotherExpected(t *testing.T) {
	e := newEnclave(t, platform.GuestConfig{})
	address := serve(t, e.config(e.key), e.honest)
	for why, change := range map[string]func(*Expect){
		"contract: expected 09":        func(x *Expect) { x.Contract[0] = 9 },
		"host data: expected 09":       func(x *Expect) { x.HostData[0] = 9 },
		"run: expected 00ff":           func(x *Expect) { x.Run = "00ff" },
		"signature: expected a chain":  func(x *Expect) { x.Platform.Anchors = amd(t) },
		"signature: expected a chain ": func(x *Expect) { x.Platform.Now = time.Now().AddDate(500, 0, 0) },
		"reported TCB: expected at least": func(x *Expect) {
			floor := x.Platform.MinTCB[snp.Milan]
			floor.Microcode = 255
			x.Platform.MinTCB = snp.Floors{snp.Milan: floor}
		},
		"SMT: expected unstated": func(x *Expect) { x.Platform.SMT = snp.SMTUnstated },
		"checkpoint: expected good, got it is old": func(x *Expect) {
			x.Checkpoint = func([]byte) error { return errors.New("it is old") }
		},
	} {
		want := e.expect()
		change(&want)
		refused(t, want, address, why)
	}
	refused(t, Expect{}, address, "signature: expected a chain to (not stated)")
}

func amd(t *testing.T) snp.Anchors {
	t.Helper()
	a, err := snp.AMD()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestRelay: an attacker with a key of its own shows the enclave's evidence, and
// passes nonce and answer on.
func TestRelay(t *testing.T) {
	e := newEnclave(t, platform.GuestConfig{})
	genuine := serve(t, e.config(e.key), e.honest)
	relay := func(c *tls.Conn) {
		up, err := tls.Dial("tcp", genuine, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proof.ALPN}})
		if err != nil {
			return
		}
		defer up.Close()
		go io.Copy(up, c)
		io.Copy(c, up)
	}
	// Its own key is not the report's.
	refused(t, e.expect(), serve(t, e.config(newKey(t)), relay), "report data: expected")

	// A report over its own key, of a machine that is good, is about another
	// contract or a policy that it made itself; where the client's judgement is
	// already in its memory, or the key were stolen, the exporter tells.
	thief := e.config(e.key)
	refused(t, e.expect(), serve(t, thief, relay), "this connection: expected signed by the key in the report")
}

// TestReplay: an answer that was recorded is given again.
func TestReplay(t *testing.T) {
	e := newEnclave(t, platform.GuestConfig{})
	up, err := tls.Dial("tcp", serve(t, e.config(e.key), e.honest), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proof.ALPN}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	if _, err := up.Write(make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	recorded := make([]byte, 512)
	n, err := up.Read(recorded)
	if err != nil {
		t.Fatal(err)
	}
	replay := func(c *tls.Conn) {
		io.ReadFull(c, make([]byte, 32))
		c.Write(recorded[:n])
		io.Copy(c, c)
	}
	refused(t, e.expect(), serve(t, e.config(e.key), replay), "this connection: expected signed by the key in the report")
}

func TestSignedForAnotherContract(t *testing.T) {
	e := newEnclave(t, platform.GuestConfig{})
	refused(t, e.expect(), serve(t, e.config(e.key), func(c *tls.Conn) { proof.Answer(c, e.key, [32]byte{4}, nil) }),
		"this connection: expected signed by the key in the report")
}

func TestNoAttestedTLS(t *testing.T) {
	e := newEnclave(t, platform.GuestConfig{})
	plain := httptest.NewTLSServer(nil) // no evidence, and another protocol
	defer plain.Close()
	refused(t, e.expect(), plain.Listener.Addr().String(), "no application protocol")

	old := e.config(e.key)
	old.MaxVersion = tls.VersionTLS12
	refused(t, e.expect(), serve(t, old, e.honest), "protocol version not supported")

	silent := e.config(e.key)
	silent.NextProtos = nil
	refused(t, e.expect(), serve(t, silent, e.honest), "attested TLS: expected cloister-attested/1, got (none)")

	without := e.config(e.key)
	der, err := x509.CreateCertificate(rand.Reader, template(), template(), &e.key.PublicKey, e.key)
	if err != nil {
		t.Fatal(err)
	}
	without.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: e.key}}
	refused(t, e.expect(), serve(t, without, e.honest), "the certificate carries no evidence")

	for _, answer := range [][]byte{{}, {0}, {0xff, 0xff}, {0, 0, 0xff, 0xff}, bytes.Repeat([]byte{0}, 4)} {
		refused(t, e.expect(), serve(t, e.config(e.key), func(c *tls.Conn) {
			io.ReadFull(c, make([]byte, 32))
			c.Write(answer)
		}), "the clean room is refused")
	}
}

// TestNeverResumed: a client has nothing to resume with, and says no to a server
// that would have it.
func TestNeverResumed(t *testing.T) {
	e := newEnclave(t, platform.GuestConfig{})
	if c := New(e.expect()).config(); c.ClientSessionCache != nil || !c.SessionTicketsDisabled {
		t.Error("the client keeps sessions")
	}
	err := New(e.expect()).check(tls.ConnectionState{Version: tls.VersionTLS13, DidResume: true, NegotiatedProtocol: proof.ALPN, PeerCertificates: make([]*x509.Certificate, 1)})
	if err == nil || !strings.Contains(err.Error(), "resumed session: expected false, got true") {
		t.Errorf("got %v", err)
	}
}

// TestSilentServer: a server that says nothing is given up.
func TestSilentServer(t *testing.T) {
	e := newEnclave(t, platform.GuestConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	address := serve(t, e.config(e.key), func(c *tls.Conn) {
		io.ReadFull(c, make([]byte, 32))
		cancel()
		io.Copy(io.Discard, c)
	})
	if _, err := New(e.expect()).DialContext(ctx, "tcp", address); err == nil {
		t.Error("a server that does not answer the nonce is believed")
	}
}

func TestTransport(t *testing.T) {
	e := newEnclave(t, platform.GuestConfig{})
	for _, http2 := range []bool{false, true} {
		tr := New(e.expect()).Transport(http2)
		defer tr.CloseIdleConnections()
		srv := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.Proto+" "+r.Host)
		})}
		srv.Protocols.SetHTTP1(true)
		srv.Protocols.SetUnencryptedHTTP2(true)
		l := newHandOver()
		go srv.Serve(l)
		defer srv.Close()
		address := serve(t, e.config(e.key), func(c *tls.Conn) {
			if proof.Answer(c, e.key, e.id.ContractDigest, nil) == nil {
				l.hand(c)
			}
		})
		r, err := http.NewRequest("GET", "https://"+address+"/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := map[bool]string{false: "HTTP/1.1 ", true: "HTTP/2.0 "}[http2] + address; string(body) != want || err != nil {
			t.Errorf("got %q, %v, want %q", body, err, want)
		}
		r.URL.Scheme = "http"
		if _, err := tr.RoundTrip(r); err == nil {
			t.Error("a request went out in plain")
		}
	}
}

// TestJudgedOnce: the second connection to the same certificate is quick.
func TestJudgedOnce(t *testing.T) {
	e := newEnclave(t, platform.GuestConfig{})
	c := New(e.expect())
	address := serve(t, e.config(e.key), e.honest)
	for range 2 {
		conn, err := c.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	if run, err := c.Run(t.Context(), address); run != hex.EncodeToString(e.id.RunID[:]) || err != nil {
		t.Errorf("the run is %q, %v", run, err)
	}
	if len(c.judged) != 1 {
		t.Errorf("%d judgements are kept", len(c.judged))
	}
}
