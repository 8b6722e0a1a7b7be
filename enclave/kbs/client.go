// Package kbs gets keys from a Key Broker Service of the Confidential
// Containers project, which a data owner may run on any cloud.
//
// Life of a key: Source, the gate's key source, is asked for a volume's wrapped
// DEK, which is one resource of the broker, and later for the KEK, which is
// another. The broker gives nothing, not even ciphertext, to a machine that has
// not proven itself, so the first access makes a session: POST /kbs/v0/auth
// states version and processor and gets the broker's challenge; a key pair is
// made, the processor vouches for challenge and public key, and the machine
// judges that evidence itself; POST /kbs/v0/attest shows it. Each GET
// /kbs/v0/resource/REPOSITORY/TYPE/TAG then answers with a JWE that only this
// session's key opens. A session that ran out is made anew once.
//
// How this meets the gate's order: the record of the wrapped DEK is accepted
// before the broker is asked for anything; the KEK is asked for, and leaves its
// owner, only after its own record and the consent after it. What differs from a
// vault is that the machine has been attested by then, because the broker
// demands it earlier.
//
// How it meets the rule that each report has a purpose: see snp.KeyBroker.
//
// The protocol: confidential-containers/trustee, kbs/docs/kbs_attestation_protocol.md
// and kbs.yaml at commit 78962cd of 2026-08-21, version 0.4.0, with the fields of
// kbs-types 0.18.0. Its one implementation matches the version exactly. The
// evidence is what that commit's verifier of SEV-SNP reads (sev 7.1.0).
package kbs

import (
	"context"
	"crypto/x509"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"cloister/enclave/azure"
	"cloister/enclave/snp"
	"cloister/internal/fault"
)

// Options configure a Client. URL and Prove are required.
type Options struct {
	URL   string         // the broker, https://HOST[:PORT]
	Roots *x509.CertPool // end its TLS chain; nil is the system's
	// Prove has the processor vouch for a statement and judges the evidence.
	Prove func(ctx context.Context, about snp.Statement) (*snp.Evidence, error)
	Retry policy.RetryOptions
	// Deadline bounds each request for a resource, with the session it may need
	// and all tries; 0 is azure.Deadline.
	Deadline time.Duration
}

// Client asks one broker. It is safe for concurrent use.
type Client struct {
	base     string
	prove    func(context.Context, snp.Statement) (*snp.Evidence, error)
	deadline time.Duration
	pipeline runtime.Pipeline

	turn chan struct{} // held by whoever makes a session; one at a time does

	mu       sync.Mutex // guards the fields below
	closed   bool
	sessions []*session // the last one is in use; earlier ones may still be waited on
}

// New returns a client; nothing is asked yet.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fault.Errorf(fault.Usage, "write it as https://HOST", "the key broker %q is not an https address", o.URL)
	}
	opts := azure.ClientOptions(policy.ClientOptions{Transport: azure.NewTransport(o.Roots), Retry: o.Retry})
	return &Client{
		base: "https://" + u.Host, prove: o.Prove, deadline: o.Deadline,
		pipeline: runtime.NewPipeline("cloister", "1", runtime.PipelineOptions{}, &opts),
		turn:     make(chan struct{}, 1),
	}, nil
}

// Address is where a broker has a resource, REPOSITORY/TYPE/TAG.
func Address(broker, resource string) string {
	return strings.TrimSuffix(broker, "/") + resourcePath + resource
}

// Attest goes as far as a session, and asks for no resource.
func (c *Client) Attest(ctx context.Context) error {
	ctx, cancel := azure.Bound(ctx, c.deadline)
	defer cancel()
	_, err := c.session(ctx, nil)
	return err
}

// Resource returns what the broker holds at an address, opened. The caller
// zeroes it.
func (c *Client) Resource(ctx context.Context, address string) ([]byte, error) {
	name, ok := strings.CutPrefix(address, c.base+resourcePath)
	if !ok || !isResource(name) {
		return nil, fault.Errorf(fault.Usage, "write it as REPOSITORY/TYPE/TAG", "%q is not a resource of the key broker %s", address, c.base)
	}
	ctx, cancel := azure.Bound(ctx, c.deadline)
	defer cancel()
	s, err := c.session(ctx, nil)
	if err != nil {
		return nil, err
	}
	body, err := c.get(ctx, s, name)
	if isExpired(err) {
		if s, err = c.session(ctx, s); err != nil {
			return nil, err
		}
		body, err = c.get(ctx, s, name)
	}
	if err != nil {
		return nil, err
	}
	plain, err := s.open(body)
	if err != nil {
		return nil, fault.Errorf(fault.Refused, "something between changed it, or the broker does not speak this protocol version: check both", "%s answers for %s with what this session's key does not open: %w", c.base, name, err)
	}
	return plain, nil
}

// session returns the one in use, or makes one where there is none or only the
// one that ran out.
func (c *Client) session(ctx context.Context, expired *session) (*session, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s := c.newest(); s != nil && s != expired {
		return s, nil
	}
	s, err := c.handshake(ctx)
	if err != nil {
		return nil, err
	}
	return s, c.keep(s)
}

func (c *Client) newest() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sessions) == 0 {
		return nil
	}
	return c.sessions[len(c.sessions)-1]
}

func (c *Client) keep(s *session) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		s.destroy()
		return fault.Errorf(fault.Internal, "", "the client of the key broker is closed")
	}
	c.sessions = append(c.sessions, s)
	return nil
}

// Close destroys the sessions' keys.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sessions {
		s.destroy()
	}
	c.closed, c.sessions = true, nil
}
