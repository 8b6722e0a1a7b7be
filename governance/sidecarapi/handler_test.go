package sidecarapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloister/governance"
	"cloister/governance/ledger"
	"cloister/governance/statement"
)

const digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// room is a run on a ledger on files, behind the handler.
type room struct {
	*testing.T
	ledger  *ledger.Ledger
	key     *statement.PrivateKey
	counter uint64
	url     string
}

func newRoom(t *testing.T) *room {
	dir := filepath.Join(t.TempDir(), "ledger")
	r := &room{T: t}
	key, err := statement.GenerateKey(statement.P256)
	r.check(err)
	r.key = key
	ledgerKey, err := ledger.Init(dir, "", key.Public().Fingerprint())
	r.check(err)
	r.ledger, err = ledger.Open(t.Context(), dir)
	r.check(err)
	t.Cleanup(func() { r.ledger.Close() })
	k := statement.Contract{ContainerPolicy: digest, ID: "study", KeyReleasePolicy: digest, Specification: digest, Version: 1,
		Parties: []statement.Party{{Key: r.key.Public().SPKI(), Name: "alice"}}}
	approved, err := k.Digest()
	r.check(err)
	r.say(&statement.Propose{Contract: k})
	r.say(&statement.Approve{Digest: approved})
	trust := governance.Trust{Ledger: ledgerKey, Parties: []string{r.key.Public().Fingerprint()}, Specification: digest, ContainerPolicy: digest}
	run, err := governance.Begin(t.Context(), r.ledger, trust, func(context.Context, governance.Binding) (statement.Evidence, []byte, error) {
		return statement.Evidence{Platform: "simulated", Report: []byte("report")}, nil, nil
	})
	r.check(err)
	t.Cleanup(run.Destroy)
	server := httptest.NewServer(Handler(run, "study"))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *room) check(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *room) say(body statement.Body) {
	r.Helper()
	r.counter++
	entry, err := statement.Sign(statement.Statement{Body: body, Contract: "study", Time: time.Now(), Version: 1}, statement.Signature{Signer: r.key, Counter: r.counter})
	r.check(err)
	_, err = r.ledger.Append(r.Context(), entry)
	r.check(err)
}

// asks wants a status and words in the answer.
func (r *room) asks(method, path, body string, status int, words string) {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), method, r.url+path, strings.NewReader(body))
	r.check(err)
	res, err := http.DefaultClient.Do(req)
	r.check(err)
	defer res.Body.Close()
	var text strings.Builder
	if err := res.Write(&text); err != nil || res.StatusCode != status || !strings.Contains(text.String(), words) {
		r.Errorf("%s %s: %v %s, want %d with %s", method, path, err, text.String(), status, words)
	}
}

func (r *room) newest() (last statement.Body) {
	view := governance.NewView(r.ledger.Key())
	r.check(view.AdvanceToNewest(r.Context(), r.ledger, func(s governance.Seen) { last = s.Statement.Body }))
	return last
}

func TestConsentIsTheLogs(t *testing.T) {
	r := newRoom(t)
	for _, scope := range []string{statement.ScopeExecution, statement.ScopeLogging, statement.ScopeTelemetry} {
		r.asks("POST", "/consentcheck/"+scope, "", 200, `{"status":"disabled","reason":{"code":"ConsentRefused","message":"no consent to `+scope)
		r.say(&statement.ConsentGrant{Scopes: []string{scope}})
		r.asks("POST", "/consentcheck/"+scope, "{}", 200, `{"status":"enabled"}`)
		if check, ok := r.newest().(*statement.ConsentCheck); !ok || check.Scope != scope {
			t.Errorf("the log holds %+v", r.newest())
		}
		r.say(&statement.ConsentWithdraw{Scopes: []string{scope}})
		r.asks("POST", "/consentcheck/"+scope, "", 200, `withdrew its consent to `+scope)
	}
	r.asks("POST", "/consentcheck/everything", "", 404, "")
	r.asks("GET", "/consentcheck/execution", "", 405, "")
	r.asks("POST", "/oauth/token", "", 404, "")
}

func TestEventsAreRecordedWithConsentToLogging(t *testing.T) {
	r := newRoom(t)
	r.asks("PUT", "/events?id=q1&scope=queries", `{"rows":7}`, 403, "EventRefused")
	r.say(&statement.ConsentGrant{Scopes: []string{statement.ScopeLogging}})
	r.asks("PUT", "/events?id=q1&scope=queries", `{"rows":7}`, 200, "")
	if e, ok := r.newest().(*statement.AppEvent); !ok || e.ID != "q1" || e.Scope != "queries" || string(e.Data) != `{"rows":7}` {
		t.Errorf("the log holds %+v", r.newest())
	}
	r.asks("PUT", "/events", `{}`, 200, "")
	if e, ok := r.newest().(*statement.AppEvent); !ok || e.ID != "study" {
		t.Errorf("the log holds %+v", r.newest())
	}
	r.asks("PUT", "/events", `no JSON`, 400, "InvalidEvent")
	r.asks("PUT", "/events", `[]`, 400, "InvalidEvent")
	r.asks("PUT", "/events?id=%1b", `{}`, 400, "InvalidEvent")
	r.asks("PUT", "/events", `{"x":"`+strings.Repeat("x", statement.MaxEventData)+`"}`, 413, "EventTooLarge")
	r.asks("PUT", "/events", `{}`, 200, "")
}
