// Package webhook tells a service of events over HTTPS, as Standard Webhooks has it
// (https://github.com/standard-webhooks/standard-webhooks, spec v1.0.0).
//
// Life of a message: whoever saw an event makes a Message, whose ID is the same each
// time that event is told; Deliver encodes it once, signs each attempt with the key
// that it shares with the receiver, POSTs it, and tries again, with pauses that grow,
// until the receiver answers 2xx. So a message arrives at least once, and the
// receiver knows a repetition by its ID. Nothing that is sent is a secret by itself,
// and redirects are not followed: the receiver is who the URL names, or nobody.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"cloister/internal/fault"
)

// The headers of a delivery.
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp" // Unix seconds
	HeaderSignature = "Webhook-Signature" // "v1," and base64
)

// Message is what is told of an event.
type Message struct {
	ID   string    `json:"-"` // the same whenever the event is told; no dot in it
	Type string    `json:"type"`
	Time time.Time `json:"timestamp"` // when the event was
	Data any       `json:"data"`
}

// Options say whom to tell, and how.
type Options struct {
	URL   string         // https, or http on loopback
	Key   *Key           // shared with the receiver
	Roots *x509.CertPool // whom TLS is believed; nil: the system's
	// Failed, if set, is told of each attempt that failed and will be repeated.
	Failed func(error)
}

// Sender delivers messages to one receiver.
type Sender struct {
	Options
	client *http.Client
	pause  func(ctx context.Context, attempt int) error
}

// patience is how long an attempt waits for its answer: the specification has 15 to
// 30 seconds.
const patience = 20 * time.Second

// New returns a sender. It connects to nothing yet.
func New(o Options) (*Sender, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, fault.Errorf(fault.Usage, "give a URL such as https://collaborators.example/cloister", "%.200q is not the URL of a webhook", o.URL)
	}
	if host := u.Hostname(); u.Scheme != "https" && (u.Scheme != "http" || host != "localhost" && host != "127.0.0.1" && host != "::1") {
		return nil, fault.Errorf(fault.Usage, "use https", "the webhook %.200q would be told in the open", o.URL)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots}
	s := &Sender{Options: o, client: &http.Client{Transport: transport, Timeout: patience}, pause: pause}
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s, nil
}

// Deliver returns nil once the receiver has taken the message, and otherwise only
// when ctx has ended or the receiver wants no more of any.
func (s *Sender) Deliver(ctx context.Context, m Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		err := s.attempt(ctx, m.ID, body)
		if err == nil || fault.KindOf(err) == fault.Refused {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s.Failed != nil {
			s.Failed(err)
		}
		if err := s.pause(ctx, n); err != nil {
			return err
		}
	}
}

func (s *Sender) attempt(ctx context.Context, id string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(HeaderID, id)
	r.Header.Set(HeaderTimestamp, now)
	r.Header.Set(HeaderSignature, s.Key.sign(id, now, body))
	answer, err := s.client.Do(r)
	if err != nil {
		// The URL may have something in it that is nobody's to read.
		if where := (*url.Error)(nil); errors.As(err, &where) {
			err = where.Err
		}
		return fmt.Errorf("the webhook does not answer: %w", err)
	}
	answer.Body.Close() // what it says is of no interest
	return judge(answer.StatusCode)
}

func judge(status int) error {
	switch {
	case status >= 200 && status < 300:
		return nil
	case status == http.StatusGone:
		return fault.Errorf(fault.Refused, "ask who runs it, or leave --webhook out", "the webhook answers 410: it wants no more messages")
	case status >= 300 && status < 400:
		return fmt.Errorf("the webhook answers %d: a redirect is not followed, give the URL that it is at", status)
	default:
		return fmt.Errorf("the webhook answers %d", status)
	}
}

// sign is the signature of one delivery, version v1 of the specification.
func (k *Key) sign(id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, k.secret)
	fmt.Fprintf(mac, "%s.%s.", id, timestamp)
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// The first pause, and the longest: a receiver that is back waits no longer for
// what it missed.
const firstPause, longestPause = time.Second, 5 * time.Minute

// pause waits after a failed attempt, from 0 on. Half of it is random, so that
// senders that failed together do not come back together.
func pause(ctx context.Context, attempt int) error {
	d := longestPause
	if attempt < 10 {
		d = min(firstPause<<attempt, longestPause)
	}
	timer := time.NewTimer(d/2 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
