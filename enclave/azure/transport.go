// Package azure is how the runtime speaks to Azure's services: one transport
// with bounded answers and no redirects, and the runtime's identity.
//
// Life of a request: a client of the SDK signs it with the credential and hands
// it to the transport, which refuses to be sent elsewhere and cuts an answer
// that has no end.
package azure

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"time"
)

// MaxResponse bounds an answer's body in bytes. The largest legal one, a key
// release with its certificates, has about 30 KiB.
const MaxResponse = 1 << 20

// tryTimeout bounds one try of a request: an HSM's release takes up to a few
// seconds.
const tryTimeout = 30 * time.Second

// Transport sends requests for the SDK's clients (policy.Transporter).
type Transport struct{ client *http.Client }

// NewTransport trusts the given roots for TLS, or the system's when nil.
func NewTransport(roots *x509.CertPool) *Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return &Transport{client: &http.Client{
		Transport: t,
		Timeout:   tryTimeout,
		// A service that redirects would choose where tokens and evidence go.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Do sends a request. Reading the answer's body fails after MaxResponse bytes.
func (t *Transport) Do(req *http.Request) (*http.Response, error) {
	resp, err := t.client.Do(req)
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return nil, final{err}
	}
	if err != nil {
		return nil, err
	}
	resp.Body = &limitedBody{ReadCloser: resp.Body, left: MaxResponse}
	return resp, nil
}

// final is an error that the SDK's clients do not try again after: who is not
// believed now will not be in a minute.
type final struct{ error }

func (f final) Unwrap() error { return f.error }
func (final) NonRetriable()   {}

var errTooLong = errors.New("the service's answer has no end: more than 1 MiB")

type limitedBody struct {
	io.ReadCloser
	left int
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errTooLong
	}
	// One byte beyond the limit tells an answer of exactly the limit from more.
	if len(p) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return n - 1, errTooLong
	}
	return n, err
}
