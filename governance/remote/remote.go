package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/governance/tiles"
	"cloister/internal/fault"
)

// Options say where a log is and who asks.
type Options struct {
	URL    string           // of the log: https, or http on loopback
	Roots  *x509.CertPool   // whom TLS is believed; nil: the system's
	Signer statement.Signer // who reads; nil: nobody, and only an open log answers
	// Platform is whose evidence is believed, in the words of who judges it: Log only
	// keeps it.
	Platform string
}

// Log is a log behind HTTP. It implements governance.RunLog.
type Log struct {
	*tiles.Reader
	Platform string // of Options
	base     string
	signer   statement.Signer
	client   *http.Client
	run      atomic.Pointer[introduced] // who reads in the signer's place, nil for nobody
	demand   *demand                    // nil where no evidence is asked for
}

// timeout ends a request that nothing answers: a commit has half of it, and the
// way there and back the rest.
const timeout = time.Minute

// maxAnswer bounds an answer: an entry bundle of 256 of the largest entries.
const maxAnswer = tiles.Width * (statement.MaxEntry + 2)

// New returns the log at a URL. It connects to nothing yet.
func New(o Options) (*Log, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") == "" {
		return nil, fault.Errorf(fault.Usage, "give a URL such as https://ledger.example/contract", "%q is not the URL of a log", o.URL)
	}
	if host := u.Hostname(); u.Scheme != "https" && (u.Scheme != "http" || host != "localhost" && host != "127.0.0.1" && host != "::1") {
		return nil, fault.Errorf(fault.Usage, "use https", "the log at %q would be read in the open", o.URL)
	}
	l := &Log{Platform: o.Platform, base: strings.TrimSuffix(o.URL, "/"), signer: o.Signer, client: newClient(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots})}
	l.Reader = tiles.NewReader(l.get)
	return l, nil
}

func newClient(config *tls.Config) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = config
	transport.MaxIdleConnsPerHost = 64 // appenders that share a Log
	return &http.Client{Transport: transport, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Key returns the verifier key that the server says the log has. Whoever has a
// specification goes by the key in there instead.
func (l *Log) Key(ctx context.Context) (string, error) {
	raw, err := l.get(ctx, "key")
	return strings.TrimSpace(string(raw)), err
}

// Refused returns what the ledger keeps of statements that it did not append, where
// the contract has it kept.
func (l *Log) Refused(ctx context.Context) (list []governance.Refused, err error) {
	raw, err := l.get(ctx, "refused")
	if err == nil && json.Unmarshal(raw, &list) != nil {
		err = fault.Errorf(fault.Unavailable, "is this the URL of a ledger?", "the answer of %s is no list of refused statements", l.base)
	}
	return list, err
}

// Append implements governance.Log.
func (l *Log) Append(ctx context.Context, entries ...[]byte) (governance.Receipt, error) {
	body := append(append([]byte("["), bytes.Join(entries, []byte(","))...), ']')
	raw, failed := l.do(ctx, http.MethodPost, "entries", body, nil) // statements are signed themselves
	var said Receipt
	if p, ok := failed.(*problem); ok {
		if p.Receipt == nil {
			return governance.Receipt{}, p.fault()
		}
		said, failed = *p.Receipt, p.fault()
	} else if failed != nil {
		return governance.Receipt{}, failed
	} else if err := json.Unmarshal(raw, &said); err != nil || said.Count < 1 {
		return governance.Receipt{}, fault.Errorf(fault.Unavailable, "is this the URL of a ledger?", "the answer of %s is no receipt (%v)", l.base, err)
	}
	return governance.Receipt{Index: said.Index, Count: said.Count, Checkpoint: []byte(said.Checkpoint)}, failed
}

// do sends a request, signed where there is a signer, and returns what it is
// answered, a problem as *problem: of a log that is to be attested, once it is.
func (l *Log) do(ctx context.Context, method, path string, body []byte, signer statement.Signer) ([]byte, error) {
	if err := l.attested(ctx); err != nil {
		return nil, err
	}
	raw, _, err := l.send(ctx, method, path, body, signer)
	return raw, err
}

// send is do without a question for evidence. It also returns the connection's end.
func (l *Log) send(ctx context.Context, method, path string, body []byte, signer statement.Signer) ([]byte, *tls.ConnectionState, error) {
	r, err := http.NewRequestWithContext(ctx, method, l.base+"/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	if signer != nil {
		if err := Sign(r, body, signer, time.Now()); err != nil {
			return nil, nil, err
		}
	}
	answer, err := l.client.Do(r)
	if err != nil {
		return nil, nil, cannotAsk(err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil || len(raw) > maxAnswer {
		return nil, nil, fault.Errorf(fault.Unavailable, "try again", "reading the ledger's answer: %d bytes, at most %d are allowed: %w", len(raw), maxAnswer, err)
	}
	if answer.StatusCode == http.StatusOK {
		return raw, answer.TLS, nil
	}
	return nil, nil, readProblem(answer, raw)
}

func cannotAsk(err error) error {
	if fault.KindOf(err) == fault.Refused { // by demand.check
		return fmt.Errorf("asking the ledger: %w", err)
	}
	return fault.Errorf(fault.Unavailable, "see that the ledger runs, and that its certificate is trusted", "asking the ledger: %w", err)
}
