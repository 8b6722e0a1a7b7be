package governance

import (
	"strings"
	"testing"

	"cloister/governance/statement"
	"cloister/internal/fault"
)

// TestJobs: each asks with a nonce of its own where it is to ask, and none starts and
// no result is handed over once consent has ended; that a job ended can always be
// told.
func TestJobs(t *testing.T) {
	w, l, r := begun(t)
	ctx, exit := t.Context(), 0
	result := &statement.Handed{Digest: digestA, Size: 7}
	job := func(n string) statement.Job { return statement.Job{ID: strings.Repeat(n, 32), Party: "bob"} }
	hand := func(n string) error {
		j := job(n)
		j.Phase, j.Result = statement.PhaseResult, result
		return r.RecordJob(ctx, j)
	}
	end := func(n string) error {
		return r.RecordJob(ctx, statement.Job{ID: strings.Repeat(n, 32), Phase: statement.PhaseEnd, Exit: &exit, Result: result})
	}
	if err := r.StartJob(ctx, job("1"), false); ReasonOf(err) != NoConsent {
		t.Errorf("a job before anybody was asked: %v", err)
	}
	var nonces []string
	asked := func() string {
		run, _ := r.view.State().run(r.id)
		a, _ := run.answer(statement.ScopeExecution)
		return a.nonce
	}
	for _, n := range []string{"1", "2"} {
		if err := r.StartJob(ctx, job(n), true); err != nil {
			t.Fatal(err)
		}
		nonces = append(nonces, asked())
	}
	if nonces[0] == nonces[1] {
		t.Error("two jobs asked with one nonce")
	}
	if err := r.StartJob(ctx, job("3"), false); err != nil || asked() != nonces[1] {
		t.Errorf("a job that is not to ask: %v, or it asked", err)
	}
	for _, err := range []error{end("1"), hand("1")} {
		if err != nil {
			t.Error(err)
		}
	}
	l.put(t, w.by("alice", 1, &statement.ConsentWithdraw{Scopes: execution()}))
	if err := hand("1"); ReasonOf(err) != NoConsent {
		t.Errorf("a result without consent: %v", err)
	}
	if err := r.StartJob(ctx, job("4"), false); ReasonOf(err) != NoConsent {
		t.Errorf("a job without consent: %v", err)
	}
	if err := r.StartJob(ctx, job("5"), true); fault.KindOf(err) != fault.Refused {
		t.Errorf("a job that asks, without consent: %v", err)
	}
	if err := end("2"); err != nil {
		t.Errorf("the end of a job without consent: %v", err)
	}
}

// TestPartyAfterARotation: who speaks for a party is what the log says now.
func TestPartyAfterARotation(t *testing.T) {
	w, l, r := begun(t)
	w.addKey("alice2", statement.Ed25519)
	if name, ok := r.Party(w.keys["alice"].Public()); !ok || name != "alice" {
		t.Errorf("%q, %v", name, ok)
	}
	l.put(t, w.rotate("alice2", "alice", "alice2", "bob"))
	if err := r.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if name, ok := r.Party(w.keys["alice2"].Public()); !ok || name != "alice" {
		t.Errorf("the new key: %q, %v", name, ok)
	}
	if name, ok := r.Party(w.keys["alice"].Public()); ok {
		t.Errorf("the old key still speaks for %q", name)
	}
}
