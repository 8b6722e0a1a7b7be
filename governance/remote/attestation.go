package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"

	"cloister/governance/statement"
	"cloister/internal/fault"
)

// Attestation is what an attested ledger shows of itself to everybody: evidence that
// its key, and the TLS key of its server, were made in a container and are in no
// other place.
type Attestation struct {
	Evidence statement.Evidence `json:"evidence"`
	Key      string             `json:"key"`    // the ledger's verifier key
	TLSKey   []byte             `json:"tlsKey"` // SubjectPublicKeyInfo, DER
}

// Judge refuses evidence that is not the agreed ledger's, or not about that TLS key.
type Judge func(Attestation) error

// demand is what is asked of a log before anything else.
type demand struct {
	judge Judge
	// turn holds one token, of who asks for evidence. It is a channel and not a mutex
	// because it is held across I/O.
	turn   chan struct{}
	tlsKey atomic.Pointer[[]byte] // that the evidence is about; nil before it was judged
}

// Demand has the log show evidence before anything else is asked of it or said to
// it. Each connection then ends where the evidence is from: its key is the one that
// the report binds, so who issued the certificate, and for which name, says no more,
// and is not asked. It is called before the log is used.
func (l *Log) Demand(judge Judge) {
	d := &demand{judge: judge, turn: make(chan struct{}, 1)}
	d.turn <- struct{}{}
	l.demand = d
	l.client = newClient(&tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, VerifyConnection: d.check})
}

// check ends a handshake with anybody else than who was judged. Before, only the
// evidence is asked for, which is for everybody.
func (d *demand) check(s tls.ConnectionState) error {
	if key := d.tlsKey.Load(); key == nil || bytes.Equal(*key, s.PeerCertificates[0].RawSubjectPublicKeyInfo) {
		return nil
	}
	return fault.Errorf(fault.Refused, "see that nothing ends its TLS but the ledger itself", "the server has another key than the attested ledger")
}

// attested returns nil once the ledger has shown evidence that is good.
func (l *Log) attested(ctx context.Context) error {
	d := l.demand
	if d == nil || d.tlsKey.Load() != nil {
		return nil
	}
	select {
	case <-d.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { d.turn <- struct{}{} }()
	if d.tlsKey.Load() != nil {
		return nil
	}
	key, err := l.judged(ctx)
	l.client.CloseIdleConnections() // what was open before has ended
	if err == nil {
		d.tlsKey.Store(&key)
	}
	return err
}

// judged asks for the evidence, and returns the TLS key that it is about.
func (l *Log) judged(ctx context.Context) ([]byte, error) {
	raw, state, err := l.send(ctx, http.MethodGet, "attestation", nil, nil)
	if p := (*problem)(nil); errors.As(err, &p) && p.Status == http.StatusNotFound {
		return nil, fault.Errorf(fault.Refused, "have its operator start it with cloister-ledger serve --attest, under the agreed container policy",
			"the ledger shows no evidence, which the specification demands: %w", p.fault())
	}
	if err != nil {
		return nil, asFault(err)
	}
	var a Attestation
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, fault.Errorf(fault.Unavailable, "is this the URL of a ledger?", "the answer of %s is no evidence: %w", l.base, err)
	}
	if state == nil || !bytes.Equal(a.TLSKey, state.PeerCertificates[0].RawSubjectPublicKeyInfo) {
		return nil, fault.Errorf(fault.Refused, "give its https URL, and see that nothing ends its TLS but the ledger itself", "the ledger's evidence is not about the server that shows it")
	}
	return a.TLSKey, l.demand.judge(a)
}
