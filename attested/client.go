package attested

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"cloister/attested/proof"
	"cloister/enclave/snp"
	"cloister/internal/fault"
)

// Expect is what the other end must be. All but Run and Checkpoint is required.
type Expect struct {
	Contract [32]byte // digest of the contract version that must be carried out
	HostData [32]byte // digest of the contract's container policy
	Run      string   // if not "", the run, 32 hexadecimal digits
	// Platform says who is believed about the machine, and how old it may be; its
	// HostData and ReportData are not the caller's to set.
	Platform snp.Expectations
	// Checkpoint judges the log's newest checkpoint that the enclave has verified,
	// a signed note, or empty; nil: it is not looked at.
	Checkpoint func(signed []byte) error
}

// Client connects to enclaves that are what is expected. Its methods may be
// called by many at once.
type Client struct {
	expect Expect

	mu     sync.Mutex // guards judged
	judged map[[32]byte]time.Time
}

// Evidence that was good is not judged again on each connection: this long, for
// that many certificates. Certificates run out and lists of revoked ones are
// renewed by the day.
const (
	judgementHolds = 10 * time.Minute
	maxJudged      = 64
)

// HandshakeTime bounds a handshake and the exchange after it.
const HandshakeTime = 10 * time.Second

// New returns a client.
func New(e Expect) *Client { return &Client{expect: e, judged: map[[32]byte]time.Time{}} }

// DialContext connects, and returns once the other end has proven what it is.
// Errors are of kind fault.Refused where it is not that, naming each check that
// failed, and fault.Unavailable where it does not answer.
func (c *Client) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, fault.Errorf(fault.Unavailable, "", "calling the clean room at %s: %w", address, err)
	}
	conn, err := c.Handshake(ctx, raw)
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("calling the clean room at %s: %w", address, err)
	}
	return conn, nil
}

// Run returns the id of the run at an address, which has proven itself.
func (c *Client) Run(ctx context.Context, address string) (string, error) {
	conn, err := c.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	e, err := proof.OfCertificate(conn.(*tls.Conn).ConnectionState().PeerCertificates[0])
	return hex.EncodeToString(e.RunID[:]), err
}

// Handshake is DialContext on a connection that there is. After an error the
// connection is the caller's to close.
func (c *Client) Handshake(ctx context.Context, raw net.Conn) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, HandshakeTime)
	defer cancel()
	conn := tls.Client(raw, c.config())
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, handshakeError(err)
	}
	if err := c.exchange(conn); err != nil {
		return nil, err
	}
	if !stop() {
		return nil, fault.Errorf(fault.Unavailable, "", "the handshake was given up: %w", context.Cause(ctx))
	}
	return conn, nil
}

// config demands TLS 1.3 and a certificate whose evidence is good. The names and
// the issuer in it say nothing, so the usual verification is left out: check is
// in its place, and a handshake without it does not end well.
func (c *Client) config() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{proof.ALPN},
		InsecureSkipVerify:     true,
		VerifyConnection:       c.check,
		SessionTicketsDisabled: true, // and no ClientSessionCache
	}
}

func handshakeError(err error) error {
	if fault.KindOf(err) == fault.Refused {
		return err
	}
	return fault.Errorf(fault.Refused, "the address must be an endpoint of a clean room, which speaks TLS 1.3", "the TLS handshake failed: %w", err)
}

// subject begins every refusal.
const subject = "the clean room"

// check judges a handshake. All that is looked at is named in a refusal.
func (c *Client) check(s tls.ConnectionState) error {
	var checks snp.Checks
	checks.Add("TLS version", tls.VersionName(tls.VersionTLS13), tls.VersionName(s.Version))
	checks.Add("resumed session", "false", strconv.FormatBool(s.DidResume))
	checks.Add("attested TLS", proof.ALPN, orNone(s.NegotiatedProtocol))
	if len(s.PeerCertificates) != 1 {
		checks.Add("certificates", "1", strconv.Itoa(len(s.PeerCertificates)))
		return checks.Err(subject)
	}
	if err := checks.Err(subject); err != nil {
		return err
	}
	sum := sha256.Sum256(s.PeerCertificates[0].Raw)
	now := time.Now()
	if c.known(sum, now) {
		return nil
	}
	if err := c.judge(s.PeerCertificates[0], now); err != nil {
		return err
	}
	c.remember(sum, now)
	return nil
}

func (c *Client) known(sum [32]byte, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Before(c.judged[sum])
}

func (c *Client) remember(sum [32]byte, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.judged) >= maxJudged {
		clear(c.judged)
	}
	c.judged[sum] = now.Add(judgementHolds)
}

// judge verifies a certificate's evidence.
func (c *Client) judge(cert *x509.Certificate, now time.Time) error {
	e, err := proof.OfCertificate(cert)
	if err != nil {
		return fault.Errorf(fault.Refused, "the address must be an endpoint of a clean room", "%s is refused: %w", subject, err)
	}
	platform, err := e.Platform()
	if err != nil {
		return err
	}
	// The key in the report must be the one that the handshake is signed with.
	about, err := e.Identity(cert.RawSubjectPublicKeyInfo).ReportData()
	if err != nil {
		return fault.Errorf(fault.Refused, "", "%s is refused: %w", subject, err)
	}
	var checks snp.Checks
	checks.Add("contract", hex.EncodeToString(c.expect.Contract[:]), hex.EncodeToString(e.ContractDigest[:]))
	run := hex.EncodeToString(e.RunID[:])
	checks.AddIf("run", orAny(c.expect.Run), run, c.expect.Run == "" || c.expect.Run == run)
	want := c.expect.Platform
	want.HostData, want.ReportData, want.Now = c.expect.HostData[:], about[:], cmpTime(want.Now, now)
	res, _ := snp.Verify(platform, want)
	return append(checks, res.Checks...).Err(subject)
}

// exchange has the enclave show that it is at this connection's end, now.
func (c *Client) exchange(conn *tls.Conn) error {
	s, signature, err := proof.Ask(conn, c.expect.Contract)
	if err != nil {
		return fault.Errorf(fault.Refused, "", "%s is refused: it does not prove that it is at the connection's end: %w", subject, err)
	}
	var checks snp.Checks
	actual := "a signature over something else, or another's"
	good := s.Verify(conn.ConnectionState().PeerCertificates[0].PublicKey, signature)
	if good {
		actual = "signed"
	}
	checks.AddIf("this connection", "signed by the key in the report", actual, good)
	if good && c.expect.Checkpoint != nil {
		actual := "good"
		err := c.expect.Checkpoint(s.Checkpoint)
		if err != nil {
			actual = err.Error()
		}
		checks.AddIf("checkpoint", "good", actual, err == nil)
	}
	return checks.Err(subject)
}

func cmpTime(t, otherwise time.Time) time.Time {
	if t.IsZero() {
		return otherwise
	}
	return t
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

func orAny(s string) string {
	if s == "" {
		return "any"
	}
	return s
}
