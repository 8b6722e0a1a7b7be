package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloister/internal/fault"
)

// receiver answers one delivery after the other as it is told, and then 200.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex // guards got
	got  []*http.Request
	body []string
}

func receive(t *testing.T, answers ...http.HandlerFunc) *receiver {
	r := &receiver{}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		n := len(r.got)
		r.got, r.body = append(r.got, q), append(r.body, string(body))
		r.mu.Unlock()
		if n < len(answers) {
			answers[n](w, q)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(code)
	}
}

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // the specification's example

func keyFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// sender has no pauses, and counts the failures.
func sender(t *testing.T, r *receiver, failed *[]string) *Sender {
	t.Helper()
	key, err := ReadKey(keyFile(t, secret+"\n", 0o600))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(r.Certificate())
	s, err := New(Options{URL: r.URL + "/hook", Key: key, Roots: roots, Failed: func(err error) { *failed = append(*failed, err.Error()) }})
	if err != nil {
		t.Fatal(err)
	}
	s.pause = func(ctx context.Context, _ int) error { return ctx.Err() }
	return s
}

var message = Message{ID: "run-7", Type: "run.ended", Time: time.Unix(1700000000, 0).UTC(), Data: map[string]int{"entry": 7}}

// TestDelivered: what fails, hangs, hangs up or redirects is told again until it is
// taken, always with one id and body, and signed each time.
func TestDelivered(t *testing.T) {
	release := make(chan struct{})
	hang := func(_ http.ResponseWriter, q *http.Request) {
		select {
		case <-q.Context().Done():
		case <-release:
		}
	}
	r := receive(t, hang, status(500), status(404), status(302), status(308), func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, status(204))
	t.Cleanup(func() { close(release) })
	var failed []string
	s := sender(t, r, &failed)
	s.client.Timeout = 200 * time.Millisecond // of the one that hangs
	count := s.Failed
	s.Failed = func(err error) { s.client.Timeout = patience; count(err) }
	if err := s.Deliver(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.got) < 7 {
		t.Fatalf("%d attempts, want at least 7", len(r.got))
	}
	for _, want := range []string{"does not answer: context deadline", "500", "404", "302: a redirect is not followed", "308: a redirect", "does not answer: EOF"} {
		if !strings.Contains(strings.Join(failed, "\n"), want) {
			t.Errorf("no failure says %q: %q", want, failed)
		}
	}
	for i, q := range r.got {
		if q.Method != http.MethodPost || q.URL.Path != "/hook" || q.Header.Get("Webhook-Id") != "run-7" {
			t.Errorf("attempt %d is %s %s of %q", i, q.Method, q.URL, q.Header.Get("Webhook-Id"))
		}
		if want := `{"type":"run.ended","timestamp":"2023-11-14T22:13:20Z","data":{"entry":7}}`; r.body[i] != want {
			t.Errorf("attempt %d tells %s", i, r.body[i])
		}
		if !verified(q.Header, r.body[i]) {
			t.Errorf("attempt %d has signature %q", i, q.Header.Get("Webhook-Signature"))
		}
		if verified(q.Header, r.body[i]+" ") {
			t.Error("the signature is of any body")
		}
	}
}

// verified is the receiver's check, as the specification has it.
func verified(h http.Header, body string) bool {
	key, _ := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	mac := hmac.New(sha256.New, key)
	io.WriteString(mac, h.Get("webhook-id")+"."+h.Get("webhook-timestamp")+"."+body)
	return h.Get("webhook-signature") == "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// TestSignature is the vector of the specification.
func TestSignature(t *testing.T) {
	key, err := ReadKey(keyFile(t, secret, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	got := key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
	if shown := fmt.Sprintf("%v %+v %#v %s", key, key, key, key); strings.Contains(shown, "[") {
		t.Errorf("the key shows itself: %s", shown)
	}
}

// TestNotDelivered: a receiver that wants no more ends it, as does the caller, and
// nothing is told to who is not the receiver.
func TestNotDelivered(t *testing.T) {
	var failed []string
	gone := receive(t, status(410))
	if err := sender(t, gone, &failed).Deliver(t.Context(), message); fault.KindOf(err) != fault.Refused || len(gone.got) != 1 {
		t.Errorf("410: %v after %d attempts", err, len(gone.got))
	}
	ctx, cancel := context.WithCancel(t.Context())
	down := receive(t, status(500), func(w http.ResponseWriter, _ *http.Request) { cancel(); w.WriteHeader(500) })
	if err := sender(t, down, &failed).Deliver(ctx, message); !errors.Is(err, context.Canceled) {
		t.Errorf("after the caller's end: %v", err)
	}
	stranger := receive(t)
	s := sender(t, stranger, &failed)
	s.client.Transport.(*http.Transport).TLSClientConfig.RootCAs = x509.NewCertPool()
	s.pause = func(context.Context, int) error { return errors.New("no more") }
	if err := s.Deliver(t.Context(), message); err == nil || len(stranger.got) != 0 || !strings.Contains(failed[len(failed)-1], "certificate") {
		t.Errorf("a certificate of nobody: %v, %q", err, failed[len(failed)-1])
	}
	if strings.Contains(strings.Join(failed, ""), "/hook") {
		t.Errorf("the URL shows: %q", failed)
	}
}

func TestOptions(t *testing.T) {
	for _, bad := range []string{"", "hook", "http://example.com/", "ftp://example.com/", "https://u:p@example.com/", "https://example.com/#x", "https:///x", "http://127.0.0.1.example.com/"} {
		if _, err := New(Options{URL: bad}); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, good := range []string{"https://example.com/hook?x=1", "http://127.0.0.1:80/", "http://localhost/", "http://[::1]/"} {
		if _, err := New(Options{URL: good}); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func TestReadKey(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		mode os.FileMode
		kind fault.Kind
	}{
		"others read it": {secret, 0o640, fault.Refused},
		"empty":          {"", 0o600, fault.Usage},
		"short":          {"whsec_c2hvcnQ=", 0o600, fault.Usage},
		"long":           {"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65)), 0o600, fault.Usage},
		"not base64":     {"whsec_????????????????????????????????????", 0o600, fault.Usage},
	} {
		if _, err := ReadKey(keyFile(t, tc.text, tc.mode)); fault.KindOf(err) != tc.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadKey(filepath.Join(t.TempDir(), "none")); fault.KindOf(err) != fault.NotFound {
		t.Errorf("no file: %v", err)
	}
}
