package adversary

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cloister/governance"
	"cloister/governance/cosign"
	"cloister/governance/statement"
	"cloister/governance/witness"
)

// What an operator without witnesses can do. A test here that fails means that
// something is better than ADVERSARY.md says: then say so there.

func TestLoneOperatorCanHideAWithdrawal(t *testing.T) {
	o, p, l, r := running(t, 0)
	parties := l.forkAt(len(l.entries))
	_, err := parties.Append(t.Context(), p.withdraws())
	check(t, err)
	if ok, _ := follow(t, o, parties).State().Consent("alice", statement.ScopeExecution, time.Now()); ok {
		t.Fatal("the parties see no withdrawal")
	}
	if err := asks(t, r); err != nil {
		t.Errorf("listed as possible, and is not: %v", err)
	}
}

func follow(t *testing.T, o *operator, l *log) *governance.View {
	t.Helper()
	v := governance.NewCosignedView(o.key, o.witnesses)
	check(t, v.AdvanceToNewest(t.Context(), l, nil))
	return v
}

func TestLoneOperatorCanShowAnOldLog(t *testing.T) {
	o, p, l, _ := running(t, 0)
	old := l.forkAt(3)
	check(t, old.publish(t.Context()))
	_, err := l.Append(t.Context(), p.withdraws())
	check(t, err)
	view := follow(t, o, old)
	if ok, why := view.State().Consent("alice", statement.ScopeExecution, time.Now()); !ok {
		t.Errorf("listed as possible, and is not: %s", why)
	}
	// Who saw more notices.
	later := follow(t, o, l)
	refused(t, later.AdvanceToNewest(t.Context(), old, nil), rolledBack)
}

func TestLoneOperatorCanShowTwoLogs(t *testing.T) {
	o, p, l, r := running(t, 0)
	apart := l.forkAt(3)
	_, err := apart.Append(t.Context(), p.grants(nil))
	check(t, err)
	check(t, asks(t, r))
	one, two := follow(t, o, l), follow(t, o, apart)
	a, _ := one.Checkpoint()
	b, _ := two.Checkpoint()
	if a.Root == b.Root {
		t.Error("the two logs are one")
	}
	// Comparing shows it: no log has both heads.
	_, head := two.Checkpoint()
	report, err := (&governance.Auditor{Key: o.key, Remembered: head}).Audit(t.Context(), l)
	check(t, err)
	refused(t, report.Err(), "remembered head")
}

func TestLoneOperatorCanForgetWhatItAcknowledged(t *testing.T) {
	o, p, l, r := running(t, 0)
	apart := l.forkAt(len(l.entries))
	receipt, err := apart.Append(t.Context(), p.withdraws())
	check(t, err)
	view := governance.NewCosignedView(o.key, o.witnesses)
	if err := view.Advance(t.Context(), apart, receipt.Checkpoint, nil); err != nil {
		t.Errorf("listed as possible, and is not: %v", err)
	}
	check(t, asks(t, r))
	for _, e := range l.entries {
		if bytes.Equal(e, apart.entries[len(apart.entries)-1]) {
			t.Error("the withdrawal is in the log after all")
		}
	}
}

// TestLoneOperatorCanHoldBackTime has a run ask with a clock that is an hour and
// a half late, about consent that ended an hour ago.
func TestLoneOperatorCanHoldBackTime(t *testing.T) {
	p := newParty(t)
	ended, late := time.Now().Add(-time.Hour), time.Now().Add(-90*time.Minute)
	var state governance.State
	apply := func(entry []byte) {
		t.Helper()
		_, err := state.Apply(0, entry)
		check(t, err)
	}
	clock := func(body statement.Body) []byte {
		p.counter++
		entry, err := statement.Sign(statement.Statement{Body: body, Contract: "trial", Time: late, Version: 1},
			statement.Signature{Signer: p.key, Counter: p.counter})
		check(t, err)
		return entry
	}
	k, d := contractOf(t, p)
	for _, body := range []statement.Body{&statement.Propose{Contract: k}, &statement.Approve{Digest: d}} {
		apply(clock(body))
	}
	end := statement.NewTime(ended)
	apply(clock(&statement.ConsentGrant{Scopes: []string{statement.ScopeExecution}, Expires: &end}))
	if ok, _ := state.Consent("alice", statement.ScopeExecution, time.Now()); ok {
		t.Fatal("the consent has not ended")
	}
	if ok, why := state.Consent("alice", statement.ScopeExecution, late); !ok {
		t.Errorf("listed as possible, and is not: %s", why)
	}
}

// copied is the group of a copy of a witness.
func (o *operator) copied(i int) *cosign.Group {
	o.t.Helper()
	dir := filepath.Join(o.t.TempDir(), "copy")
	check(o.t, os.CopyFS(dir, os.DirFS(o.dirs[i])))
	check(o.t, os.Chmod(filepath.Join(dir, "witness.key"), 0o600))
	w, err := witness.Open(dir)
	check(o.t, err)
	server := httptest.NewServer(w.Handler(slog.New(slog.DiscardHandler)))
	o.t.Cleanup(server.Close)
	group, err := cosign.New([]string{w.Key() + "@" + server.URL}, 0)
	check(o.t, err)
	return group
}
