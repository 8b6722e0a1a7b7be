package remote

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"cloister/governance/statement"
	"cloister/internal/fault"
)

// attestedAt is a server that shows evidence, and counts what else it is asked.
type attestedAt struct {
	*httptest.Server
	shown Attestation
	asked atomic.Int32
}

func serveAttested(t *testing.T) *attestedAt {
	t.Helper()
	a := &attestedAt{}
	a.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/attestation") {
			_ = json.NewEncoder(w).Encode(a.shown)
			return
		}
		a.asked.Add(1)
		fmt.Fprintln(w, "the key")
	}))
	t.Cleanup(a.Close)
	a.shown = Attestation{Key: "the key", TLSKey: a.Certificate().RawSubjectPublicKeyInfo, Evidence: statement.Evidence{Report: []byte("report")}}
	return a
}

func (a *attestedAt) log(t *testing.T, judge Judge) *Log {
	t.Helper()
	l, err := New(Options{URL: a.URL + "/log"})
	if err != nil {
		t.Fatal(err)
	}
	l.Demand(judge)
	return l
}

func good(Attestation) error { return nil }

// TestDemand: evidence is judged once, before anything else is asked, and stands for
// the certificate.
func TestDemand(t *testing.T) {
	a := serveAttested(t)
	judged := 0
	l := a.log(t, func(said Attestation) error {
		judged++
		if said.Key != "the key" || string(said.Evidence.Report) != "report" || !bytes.Equal(said.TLSKey, a.shown.TLSKey) || a.asked.Load() != 0 {
			t.Errorf("%+v after %d requests", said, a.asked.Load())
		}
		return nil
	})
	for range 3 {
		if key, err := l.Key(t.Context()); err != nil || key != "the key" {
			t.Fatal(key, err)
		}
	}
	if judged != 1 {
		t.Errorf("judged %d times", judged)
	}
}

// TestDemandRefuses: nothing reaches a ledger that is not attested as it must be; and
// it is asked again the next time.
func TestDemandRefuses(t *testing.T) {
	refuse := func(Attestation) error { return fault.Errorf(fault.Refused, "", "host data") }
	for name, c := range map[string]struct {
		change func(*attestedAt)
		judge  Judge
		want   string
	}{
		"evidence that is refused":  {nil, refuse, "host data"},
		"another server's evidence": {func(a *attestedAt) { a.shown.TLSKey = []byte("another") }, good, "not about the server"},
		"no TLS key":                {func(a *attestedAt) { a.shown.TLSKey = nil }, good, "not about the server"},
		"no evidence": {func(a *attestedAt) {
			next := a.Config.Handler
			a.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/attestation") {
					w.Header().Set("Content-Type", ProblemType)
					w.WriteHeader(http.StatusNotFound)
					fmt.Fprint(w, `{"detail":"this ledger is not attested"}`)
					return
				}
				next.ServeHTTP(w, r)
			})
		}, good, "shows no evidence, which the specification demands"},
	} {
		t.Run(name, func(t *testing.T) {
			a := serveAttested(t)
			if c.change != nil {
				c.change(a)
			}
			l := a.log(t, c.judge)
			for range 2 {
				if _, err := l.Key(t.Context()); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want a refusal that says %q", err, c.want)
				}
				if _, err := l.Append(t.Context(), []byte("{}")); fault.KindOf(err) != fault.Refused {
					t.Errorf("an append: %v", err)
				}
			}
			if n := a.asked.Load(); n != 0 {
				t.Errorf("the ledger was asked %d times", n)
			}
		})
	}
	plain := httptest.NewServer(serveAttested(t).Config.Handler)
	t.Cleanup(plain.Close)
	l, err := New(Options{URL: plain.URL + "/log"})
	if err != nil {
		t.Fatal(err)
	}
	l.Demand(good)
	if _, err := l.Key(t.Context()); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "not about the server") {
		t.Errorf("without TLS: %v", err)
	}
}

// TestAnotherServerLater: who takes the attested server's place is not spoken to.
func TestAnotherServerLater(t *testing.T) {
	a := serveAttested(t)
	l := a.log(t, good)
	if _, err := l.Key(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := []byte("another key")
	l.demand.tlsKey.Store(&other) // as if a's key were another's: the servers of this test have one certificate
	l.client.CloseIdleConnections()
	asked := a.asked.Load()
	_, err := l.Key(t.Context())
	if fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "another key than the attested ledger") || a.asked.Load() != asked {
		t.Errorf("%v after %d requests", err, a.asked.Load()-asked)
	}
}

func TestPlatformOfAnAddress(t *testing.T) {
	o, err := Parse("https://ledger.example/x,platform=simulated:a,b")
	if err != nil || o.URL != "https://ledger.example/x" || o.Platform != "simulated:a,b" {
		t.Error(o, err)
	}
	if _, err := Parse("https://ledger.example/x,ca=/nowhere,platform=amd"); errors.Is(err, nil) || fault.KindOf(err) != fault.NotFound {
		t.Error(err)
	}
}
