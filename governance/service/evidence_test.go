package service_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"cloister/governance"
	"cloister/governance/ledger"
	"cloister/governance/remote"
	"cloister/governance/service"
	"cloister/governance/statement"
)

// appends keeps the answer to the newest append.
type appends struct {
	http.Handler
	status int
	body   []byte
}

func (a *appends) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/trial/entries" {
		a.Handler.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	a.Handler.ServeHTTP(answer, r)
	a.status, a.body = answer.Code, answer.Body.Bytes()
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	w.Write(a.body)
}

// TestEvidenceRefusedAtAppend: a run that begins with evidence of another container
// is answered 403 and why, and nothing is appended. Its evidence let it read here,
// so that it is the append that refuses.
func TestEvidenceRefusedAtAppend(t *testing.T) {
	p := newParty(t)
	dir := filepath.Join(t.TempDir(), "trial")
	_, err := ledger.Init(dir, "", p.key.Public().Fingerprint())
	check(t, err)
	l, err := ledger.Open(t.Context(), dir, ledger.WithEvidence(asTold))
	check(t, err)
	t.Cleanup(l.Close)
	for _, e := range [][]byte{p.propose(), p.approve(), p.grant()} {
		_, err := l.Append(t.Context(), e)
		check(t, err)
	}
	letIn := func(*statement.RunBegin, statement.Contract) error { return nil }
	a := &appends{Handler: documented(t, service.New(service.Options{Logs: map[string]*ledger.Ledger{"trial": l},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Evidence: letIn, Rate: 10_000}))}
	s := &served{p, l, httptest.NewServer(a)}
	t.Cleanup(s.server.Close)

	trust := governance.Trust{Ledger: l.Key(), Specification: digestA, ContainerPolicy: digestA, Parties: []string{p.key.Public().Fingerprint()}}
	begin := func(policy string) error {
		run, err := governance.Begin(t.Context(), s.log(t, p.key), trust, reportOf(policy))
		check(t, err)
		_, err = run.Record(t.Context(), governance.Event{Kind: governance.EventRefusal, Name: "step", Detail: "why"}) // appends the beginning too
		return err
	}
	err = begin("another policy")
	if governance.ReasonOf(err) != governance.Unapproved || a.status != http.StatusForbidden {
		t.Errorf("status %d, %v", a.status, err)
	}
	var said remote.Problem
	check(t, json.Unmarshal(a.body, &said))
	if said.Status != http.StatusForbidden || said.Reason != governance.Unapproved || said.Hint == "" || !strings.Contains(said.Detail, "the evidence of run") {
		t.Errorf("it says %s", a.body)
	}
	if n := entries(t, l); n != 3 {
		t.Errorf("the log has %d entries", n)
	}
	check(t, begin(digestA))
	if n := entries(t, l); a.status != http.StatusOK || n < 4 {
		t.Errorf("good evidence: status %d, %d entries", a.status, n)
	}
}

func entries(t *testing.T, l *ledger.Ledger) int64 {
	t.Helper()
	view := governance.NewView(l.Key())
	check(t, view.AdvanceToNewest(t.Context(), l, nil))
	at, _ := view.Checkpoint()
	return int64(at.Size)
}
