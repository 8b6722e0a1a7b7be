package governance

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"cloister/governance/statement"
	"cloister/internal/fault"
)

// audited is a log with one run that completed and one that did not.
func auditedLog(t *testing.T) (*world, *memLog) {
	w, l, r := begun(t)
	ctx := t.Context()
	for _, err := range []error{
		r.CheckConsent(ctx, statement.ScopeExecution, ""),
		r.record(ctx, Event{Kind: statement.AccessKEK, Name: "kek"}),
		r.Complete(ctx, 0, true, "", nil),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w.beginRun(t, l)
	return w, l
}

func findings(r Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s %v: %s\n", f.Check, f.OK, f.Detail)
	}
	return b.String()
}

func TestAuditOfAnHonestLog(t *testing.T) {
	_, l := auditedLog(t)
	l.mu.Lock()
	remembered := l.sign(l.entries[:4])
	l.mu.Unlock()
	a := Auditor{Key: l.key, Remembered: remembered, Evidence: func(b *statement.RunBegin, k statement.Contract) error {
		if string(b.Evidence.Report) != "report" || k.ID != "trial" {
			return errors.New("not what was put in")
		}
		return nil
	}}
	r, err := a.Audit(t.Context(), l)
	if err != nil || r.Err() != nil {
		t.Fatal(err, r.Err())
	}
	want := `log true: 10 entries have the root of the checkpoint that test-ledger signed
remembered head true: the first 4 entries are the ones that were there before
statements true: every entry is signed by who may say it, when it may be said
sequence true: 4 records, each naming the one before, no gap
checkpoints true: the run saw this log
evidence true: the report of simulated binds the audit key, the contract and the container policy
end true: completed
sequence true: 1 records, each naming the one before, no gap
checkpoints true: the run saw this log
evidence true: the report of simulated binds the audit key, the contract and the container policy
end true: INCOMPLETE: no completion is recorded
`
	if got := findings(r); got != want {
		t.Errorf("found\n%s\nwant\n%s", got, want)
	}
	if r.Entries != 10 || r.Status != Accepted || len(r.Runs) != 2 || string(r.Head) != string(l.sign(l.entries)) {
		t.Errorf("%+v", r)
	}
}

func TestAuditNamesWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		name   string
		tamper func(t *testing.T, w *world, l *memLog, a *Auditor)
		check  string
		want   string
	}{
		{"checkpoint of another ledger", func(t *testing.T, _ *world, l *memLog, a *Auditor) { a.Key = newMemLog(t).key }, "log", "no verifiable signatures"},
		{"an entry changed under the checkpoint", func(_ *testing.T, _ *world, l *memLog, _ *Auditor) {
			l.read = func(from int64, e [][]byte) [][]byte {
				if from == 0 {
					e[0] = append([]byte(nil), e[0][1:]...)
				}
				return e
			}
		}, "log", "do not have the root"},
		{"rolled back", func(_ *testing.T, _ *world, l *memLog, a *Auditor) {
			a.Remembered = l.sign(l.entries)
			l.entries = l.entries[:6]
		}, "remembered head", "10 entries were there before, 6 are there now"},
		{"rewritten since", func(_ *testing.T, w *world, l *memLog, a *Auditor) {
			a.Remembered = l.sign(append(append([][]byte(nil), l.entries[:4]...), []byte("x")))
		}, "remembered head", "the first 5 entries are not"},
		{"remembered head of another ledger", func(t *testing.T, _ *world, l *memLog, a *Auditor) {
			a.Remembered = newMemLog(t).sign(nil)
		}, "remembered head", "no verifiable signatures"},
		{"record dropped by the operator", func(_ *testing.T, _ *world, l *memLog, _ *Auditor) {
			l.entries = append(append([][]byte(nil), l.entries[:7]...), l.entries[8:]...)
		}, "statements", "follows record 2"},
		{"records reordered by the operator", func(_ *testing.T, _ *world, l *memLog, _ *Auditor) {
			l.entries[6], l.entries[7] = l.entries[7], l.entries[6]
		}, "statements", "follows record 1"},
		{"record replayed", func(_ *testing.T, _ *world, l *memLog, _ *Auditor) {
			l.entries = append(l.entries, l.entries[7])
		}, "statements", "entry 10: record-access by run"},
		{"entry by a stranger", func(_ *testing.T, w *world, l *memLog, _ *Auditor) {
			w.addKey("eve", statement.Ed25519)
			l.entries = append(l.entries, w.by("eve", 1, &statement.Withdraw{}))
		}, "statements", "entry 10: key"},
		{"statement of an unknown type", func(t *testing.T, w *world, l *memLog, _ *Auditor) {
			l.entries = append(l.entries, retype(t, w.by("bob", 1, &statement.Withdraw{})))
		}, "statements", "unknown type"},
		{"evidence", func(_ *testing.T, _ *world, _ *memLog, a *Auditor) {
			a.Evidence = func(*statement.RunBegin, statement.Contract) error { return errors.New("wrong host data") }
		}, "evidence", "wrong host data"},
		{"the enclave was shown another log", func(t *testing.T, w *world, l *memLog, _ *Auditor) {
			// The operator let the run begin on a fork that lacked bob's second grant.
			fork := newMemLog(t)
			fork.key, fork.signer = l.key, l.signer
			fork.put(t, l.entries[:5]...)
			l.entries = append(l.entries[:5:5], w.by("bob", 1, &statement.ConsentGrant{Scopes: execution()}))
			fork.entries = append(fork.entries, w.by("alice", 1, &statement.ConsentGrant{Scopes: execution()}))
			w.beginRun(t, fork)
			l.entries = append(l.entries, fork.entries[6])
		}, "checkpoints", "which this log never was"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, l := auditedLog(t)
			a := Auditor{Key: l.key}
			tc.tamper(t, w, l, &a)
			r, err := a.Audit(t.Context(), l)
			if err != nil {
				t.Fatal(err)
			}
			var failed []Finding
			for _, f := range r.Findings {
				if !f.OK {
					failed = append(failed, f)
				}
			}
			if len(failed) == 0 || failed[0].Check != tc.check || !strings.Contains(failed[0].Detail, tc.want) {
				t.Errorf("failed %+v, want %s with %q", failed, tc.check, tc.want)
			}
			if err := r.Err(); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), tc.check+": ") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestAuditThatCannotBeCarriedOutIsAnError(t *testing.T) {
	_, l := auditedLog(t)
	a := Auditor{Key: l.key}
	if _, err := a.Audit(t.Context(), failingSource{l, 3}); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
}
