package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/fault"
)

// logAt is a log at a server that answers as it likes.
func logAt(t *testing.T, answer http.HandlerFunc) *Log {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	l, err := New(Options{URL: server.URL + "/log"})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func problemOf(status int, media, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", media)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// TestAnswersThatAreNoLedgers: each is an error that says what came, of the kind
// that its status is.
func TestAnswersThatAreNoLedgers(t *testing.T) {
	const good = ProblemType
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		kind   fault.Kind
		said   string
	}{
		"a problem":               {problemOf(403, good, `{"title":"Forbidden","status":403,"detail":"no","reason":"not-a-party"}`), fault.Refused, "no"},
		"a problem with a hint":   {problemOf(503, good+"; charset=utf-8", `{"detail":"later","hint":"wait"}`), fault.Unavailable, "later"},
		"another status inside":   {problemOf(401, good, `{"detail":"who?","status":500}`), fault.Denied, "who?"},
		"no JSON":                 {problemOf(403, good, `{"detail":`), fault.Denied, "answers 403"},
		"a field of another type": {problemOf(403, good, `{"detail":{}}`), fault.Denied, "answers 403"},
		"another media type":      {problemOf(403, "text/html", `{"detail":"no"}`), fault.Denied, "answers 403"},
		"no media type":           {problemOf(500, "", ``), fault.Internal, "answers 500"},
		"a status of its own":     {problemOf(418, good, `{"detail":"tea"}`), fault.Internal, "tea"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
			fault.Internal, "answers 302"},
		"an answer that breaks off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("x"))
		}, fault.Unavailable, "reading the ledger's answer"},
		"more than any answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(maxAnswer+1))
			chunk := make([]byte, 1<<20)
			for range maxAnswer/len(chunk) + 1 {
				_, _ = w.Write(chunk)
			}
		}, fault.Unavailable, "bytes, at most"},
		"nothing but a hang up": {func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, fault.Unavailable, "asking the ledger"},
	} {
		t.Run(name, func(t *testing.T) {
			l := logAt(t, tc.answer)
			for what, err := range map[string]error{
				"checkpoint": second(l.Checkpoint(t.Context())),
				"entries":    second(l.Entries(t.Context(), 0, 1)),
				"append":     second(l.Append(t.Context(), []byte("{}"))),
				"contract":   second(l.Contract(t.Context())),
			} {
				if fault.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.said) {
					t.Errorf("%s: got %v (%v), want %q", what, err, fault.KindOf(err), tc.said)
				}
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

// TestARedirectIsNotFollowed: a signed request goes where its signer sent it.
func TestARedirectIsNotFollowed(t *testing.T) {
	var asked []string
	l := logAt(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	if _, err := l.Append(t.Context(), []byte("{}")); err == nil {
		t.Error("a redirect is a receipt")
	}
	if len(asked) != 1 {
		t.Errorf("asked for %q", asked)
	}
}

// TestReceiptsThatAreNone: what acknowledges nothing is no receipt.
func TestReceiptsThatAreNone(t *testing.T) {
	for _, body := range []string{"", "null", "[]", "{}", `{"count":0}`, `{"count":-1,"index":3}`, `{"count":"1"}`, `{"count":1e99}`} {
		l := logAt(t, problemOf(200, "application/json", body))
		if r, err := l.Append(t.Context(), []byte("{}")); fault.KindOf(err) != fault.Unavailable || r.Count != 0 {
			t.Errorf("%s: %+v, %v", body, r, err)
		}
	}
}

// TestBytesThatAreNoTilesOfTheLog: whatever comes in a bundle's place is refused, or
// refused by the View that holds it to the checkpoint; nothing panics.
func TestBytesThatAreNoTilesOfTheLog(t *testing.T) {
	for name, tile := range map[string]string{
		"nothing": "", "one byte": "\x00", "a length and nothing": "\x00\x05", "cut off": "\x00\x05abc", "a page": "<html>", "one entry too few": "\x00\x01a",
	} {
		l := logAt(t, problemOf(200, "application/octet-stream", tile))
		if _, err := l.Entries(t.Context(), 0, 2); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "is damaged") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := l.Hashes(t.Context(), governance.Checkpoint{Size: 2}, 0); fault.KindOf(err) != fault.Refused {
			t.Errorf("%s: as hashes: %v", name, err)
		}
	}
}

// TestASlowServerIsGivenUp: with its caller's context.
func TestASlowServerIsGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	l := logAt(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else net/http does not see it go
		cancel()                           // it hangs, and its caller goes
		<-r.Context().Done()
		close(ended)
	})
	_, err := l.Append(ctx, []byte("{}"))
	if fault.KindOf(err) != fault.Unavailable || !errors.Is(err, context.Canceled) || governance.ReasonOf(err) != "" {
		t.Errorf("got %v", err)
	}
	<-ended
	if l.client.Timeout != timeout {
		t.Error("a server that nobody gives up is waited for without end")
	}
}

// TestOnlyTheNamedAuthorityIsBelieved: of two servers, the one whose certificate is
// in the file.
func TestOnlyTheNamedAuthorityIsBelieved(t *testing.T) {
	named, other := httptest.NewTLSServer(http.NotFoundHandler()), httptest.NewUnstartedServer(http.NotFoundHandler())
	t.Cleanup(named.Close)
	other.TLS = &tls.Config{Certificates: []tls.Certificate{ownCertificate(t)}}
	other.StartTLS()
	t.Cleanup(other.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: named.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]fault.Kind{named.URL: fault.NotFound, other.URL: fault.Unavailable} {
		l, err := Open(url+"/log,ca="+ca, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Checkpoint(t.Context()); fault.KindOf(err) != want {
			t.Errorf("%s: %v", url, err)
		} else if unknown := (x509.UnknownAuthorityError{}); want == fault.Unavailable && !errors.As(err, &unknown) {
			t.Errorf("refused for another reason: %v", err)
		}
	}
	// Without it, the system's alone are.
	l, err := Open(named.URL+"/log", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Checkpoint(t.Context()); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestAddressesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "no.pem"), []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for address, kind := range map[string]fault.Kind{
		"": fault.Usage, "https://host": fault.Usage, "https://host/": fault.Usage, "https://me:pw@host/log": fault.Usage, "https://host/log?x=1": fault.Usage,
		"https://host/log#x": fault.Usage, "http://host.example/log": fault.Usage, "ftp://host/log": fault.Usage, "https://host/log,ca=" + dir + "/none": fault.NotFound,
		"https://host/log,ca=" + dir + "/no.pem": fault.Usage, "://": fault.Usage,
	} {
		if _, err := Open(address, nil); fault.KindOf(err) != kind || len(fault.Hints(err)) == 0 {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestIntroducedAgainOnlyOnce: a ledger that never remembers ends it.
func TestIntroducedAgainOnlyOnce(t *testing.T) {
	asked := map[string]int{}
	l := logAt(t, func(w http.ResponseWriter, r *http.Request) {
		asked[r.Method]++
		if r.Method == http.MethodPost {
			problemOf(200, "application/json", "{}")(w, r)
			return
		}
		problemOf(403, ProblemType, `{"detail":"unknown","reason":"not-a-party"}`)(w, r)
	})
	key, err := statement.GenerateKey(statement.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Introduce(t.Context(), &statement.RunBegin{AuditKey: key.Public().SPKI()}, key); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Checkpoint(t.Context()); governance.ReasonOf(err) != governance.NotAParty {
		t.Errorf("got %v", err)
	}
	if asked[http.MethodPost] != 2 || asked[http.MethodGet] != 2 {
		t.Errorf("asked %v", asked)
	}
}

// FuzzProblem: whatever a server answers, it is an error of some kind.
func FuzzProblem(f *testing.F) {
	f.Add(403, ProblemType, []byte(`{"detail":"no","reason":"not-a-party","receipt":{"index":1,"count":1,"checkpoint":"x"}}`))
	f.Add(500, "", []byte("{"))
	f.Fuzz(func(t *testing.T, status int, media string, raw []byte) {
		request := httptest.NewRequest(http.MethodGet, "/log/key", nil)
		p := readProblem(&http.Response{StatusCode: status, Status: "x", Header: http.Header{"Content-Type": {media}}, Request: request}, raw)
		if err := p.fault(); err == nil || p.Status != status {
			t.Errorf("%v, %d", err, p.Status)
		}
	})
}

// FuzzIntroduction: what is taken names a run of 16 bytes.
func FuzzIntroduction(f *testing.F) {
	f.Add([]byte(`{"auditKey":"AA==","contractDigest":"sha256:","evidence":{"platform":"p","report":"AA=="},"run":"` + strings.Repeat("0a", 16) + `"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		begin, err := ReadIntroduction(raw)
		if err == nil && len(begin.Run.ID) != 32 || err != nil && governance.ReasonOf(err) != governance.Malformed {
			t.Errorf("%+v, %v", begin, err)
		}
	})
}

// FuzzVerify: nothing but what was signed is taken.
func FuzzVerify(f *testing.F) {
	key, err := statement.GenerateKey(statement.P256)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Now()
	signed := httptest.NewRequest(http.MethodGet, "https://ledger.example/log/tile/entries/000", nil)
	if err := Sign(signed, nil, key, now); err != nil {
		f.Fatal(err)
	}
	f.Add(signed.Header.Get("Authorization"))
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest(http.MethodGet, "https://ledger.example/log/tile/entries/001", nil)
		r.Header.Set("Authorization", header)
		if _, err := Verify(r, nil, now); fault.KindOf(err) != fault.Denied {
			t.Errorf("%q is taken: %v", header, err)
		}
	})
}
