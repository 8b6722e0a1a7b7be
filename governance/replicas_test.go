package governance

import (
	"strings"
	"testing"

	"cloister/governance/statement"
)

// replicas is a log whose accepted contract has three.
func replicas(t *testing.T) (*world, *memLog, Trust) {
	t.Helper()
	w, l := newWorld(t, "alice", "bob"), newMemLog(t)
	k := w.contract(1, "alice", "bob")
	k.Replicas = 3
	d := w.digest(k)
	l.put(t, w.by("alice", 1, &statement.Propose{Contract: k}), w.by("alice", 1, &statement.Approve{Digest: d}), w.by("bob", 1, &statement.Approve{Digest: d}),
		w.by("alice", 1, &statement.ConsentGrant{Scopes: execution()}), w.by("bob", 1, &statement.ConsentGrant{Scopes: execution()}))
	trust := w.trust(l, "alice", "bob")
	trust.Replicas = 3
	return w, l, trust
}

// TestAuditCountsReplicas: which are missing, and which ran more than once.
func TestAuditCountsReplicas(t *testing.T) {
	_, l, trust := replicas(t)
	run := func(index uint32, complete bool) {
		t.Helper()
		trust.Replica = index
		r, err := Begin(t.Context(), l, trust, attest)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Destroy()
		if err := r.CheckConsent(t.Context(), statement.ScopeExecution, "a test"); err != nil {
			t.Fatal(err)
		}
		if err := r.Complete(t.Context(), 0, complete, "", nil); err != nil {
			t.Fatal(err)
		}
	}
	audit := func() string {
		t.Helper()
		report, err := (&Auditor{Key: l.key}).Audit(t.Context(), l)
		if err != nil || report.Err() != nil {
			t.Fatal(err, report.Err())
		}
		return findings(report)
	}
	if said := audit(); strings.Contains(said, "replicas") {
		t.Errorf("before any run: %s", said)
	}
	run(0, true)
	run(2, false)
	run(2, true)
	if said, want := audit(), "version 1: 2 of 3 replicas are complete; MISSING: 1; MORE THAN ONCE: 2 (2 runs, 1 complete)"; !strings.Contains(said, want) {
		t.Errorf("%s\nlacks %s", said, want)
	}
	run(1, true)
	run(0, true)
	if said, want := audit(), "version 1: 3 of 3 replicas are complete; MORE THAN ONCE: 0 (2 runs, 2 complete), 2 (2 runs, 1 complete)"; !strings.Contains(said, want) {
		t.Errorf("%s\nlacks %s", said, want)
	}
}

// TestReplicasAreAgreed: an index that the contract has not, and a number of them
// that is not the measured one.
func TestReplicasAreAgreed(t *testing.T) {
	_, l, trust := replicas(t)
	for n, want := range map[uint32]string{0: "the contract is about 3 replica(s), the specification about 1", 2: "the specification about 2"} {
		other := trust
		other.Replicas = n
		if _, err := Begin(t.Context(), l, other, attest); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d replicas: %v", n, err)
		}
	}
	trust.Replica = 3
	r, err := Begin(t.Context(), l, trust, attest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Destroy()
	if err := r.CheckConsent(t.Context(), statement.ScopeExecution, "a test"); err == nil || !strings.Contains(err.Error(), "the run is replica 3, and version 1 has 3") {
		t.Errorf("a fourth of three: %v", err)
	}
}
