package governance

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"

	"cloister/governance/statement"
	"cloister/internal/fault"
)

func attest(_ context.Context, b Binding) (statement.Evidence, []byte, error) {
	return testEvidence(), []byte("tls key"), nil
}

func (w *world) trust(l *memLog, parties ...string) Trust {
	t := Trust{Ledger: l.key, Specification: digestA, ContainerPolicy: digestA}
	for _, p := range parties {
		t.Parties = append(t.Parties, w.keys[p].Public().Fingerprint())
	}
	return t
}

// record is Record of what is to be accepted as a whole.
func (r *Run) record(ctx context.Context, events ...Event) error {
	_, err := r.Record(ctx, events...)
	return err
}

func TestRunAsksRecordsAndCompletes(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	l := newMemLog(t)
	l.put(t, w.accepted("alice", "bob")...)
	ctx := t.Context()
	r, err := Begin(ctx, l, w.trust(l, "alice", "bob"), attest)
	if err != nil {
		t.Fatal(err)
	}
	steps := []error{
		r.CheckConsent(ctx, statement.ScopeExecution, "start"),
		r.record(ctx, Event{Kind: statement.AccessWrappedDEK, Name: "dek-secret", Volume: "in"}),
		r.record(ctx, Event{Kind: statement.AccessKEK, Name: "kek-1", Volume: "in"}),
		r.CheckConsent(ctx, statement.ScopeExecution, "release of kek-1"),
		r.record(ctx, Event{Kind: statement.AccessData, Name: "in", Volume: "in"}),
		r.record(ctx, Event{Kind: EventExecution, Name: "app"}),
		r.RecordJournalHead(ctx, "out", Head{1, 1, digestA}),
		r.RecordEnd(ctx, "app", 3, []statement.Output{{Name: "z", Reference: "r"}, {Name: "a", Reference: "r"}}),
		r.Complete(ctx, 3, true, "", nil),
	}
	for i, err := range steps {
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	if err := r.record(ctx, Event{Kind: EventRefusal, Name: "s", Detail: "d"}); ReasonOf(err) != WrongState {
		t.Errorf("a record after completion: %v", err)
	}
	runs := r.view.State().Runs()
	if len(runs) != 1 || runs[0].ID != r.ID() || runs[0].Records != 10 || !runs[0].Completed {
		t.Errorf("%+v", runs)
	}
	if err := r.record(ctx, Event{Kind: "gossip"}); err == nil {
		t.Error("an unknown kind of event is recorded")
	}
}

func TestBeginRefusesAnotherContractThanTheMeasuredOne(t *testing.T) {
	w := newWorld(t, "alice", "bob", "eve")
	for _, tc := range []struct {
		name  string
		log   [][]byte
		trust func(*Trust)
		want  string
	}{
		{"empty log", nil, func(*Trust) {}, "the contract is draft"},
		{"not accepted by all", w.accepted("alice", "bob")[:2], func(*Trust) {}, "the contract is proposed"},
		{"withdrawn", append(w.accepted("alice", "bob"), w.by("bob", 1, &statement.Withdraw{Reason: "enough"})), func(*Trust) {}, "the contract is withdrawn (bob withdrew the contract: enough)"},
		{"an amendment pending", append(w.accepted("alice", "bob"), w.by("alice", 2, &statement.Amend{Contract: w.contract(2, "alice", "bob")})), func(*Trust) {}, "the contract is proposed"},
		{"another specification", w.accepted("alice", "bob"), func(t *Trust) { t.Specification = digestB }, "this container runs " + digestB},
		{"no specification", w.accepted("alice", "bob"), func(t *Trust) { t.Specification = "" }, "this container runs "},
		{"another container policy", w.accepted("alice", "bob"), func(t *Trust) { t.ContainerPolicy = digestB }, "runs under " + digestB},
		{"a party more", w.accepted("alice", "bob", "eve"), func(*Trust) {}, "the specification names"},
		{"a party fewer", w.accepted("alice"), func(*Trust) {}, "the specification names"},
		{"no parties named", w.accepted("alice", "bob"), func(t *Trust) { t.Parties = nil }, "the specification names nobody"},
		{"another ledger", w.accepted("alice", "bob"), func(t *Trust) { t.Ledger = newMemLog(w).key }, "no verifiable signatures"},
		{"no ledger key", w.accepted("alice", "bob"), func(t *Trust) { t.Ledger = "" }, "ledger key"},
		{"unknown statement", append(w.accepted("alice", "bob"), retype(t, w.by("bob", 1, &statement.Withdraw{}))), func(*Trust) {}, "1 statement(s) of types unknown"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newMemLog(t)
			l.entries = tc.log
			trust := w.trust(l, "alice", "bob")
			tc.trust(&trust)
			_, err := Begin(t.Context(), l, trust, attest)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want an error with %q", err, tc.want)
			}
			if len(l.entries) != len(tc.log) {
				t.Error("a refused run left something in the log")
			}
		})
	}
	t.Run("no evidence", func(t *testing.T) {
		l := newMemLog(t)
		l.put(t, w.accepted("alice", "bob")...)
		_, err := Begin(t.Context(), l, w.trust(l, "alice", "bob"), func(context.Context, Binding) (statement.Evidence, []byte, error) {
			return statement.Evidence{}, nil, errors.New("no device")
		})
		if err == nil || !strings.Contains(err.Error(), "binding the audit key: no device") {
			t.Errorf("got %v", err)
		}
	})
}

func begun(t *testing.T) (*world, *memLog, *Run) {
	t.Helper()
	w := newWorld(t, "alice", "bob")
	l := newMemLog(t)
	l.put(t, w.accepted("alice", "bob")...)
	return w, l, w.beginRun(t, l)
}

// beginRun is Begin with run-begin in the log, and nothing after it.
func (w *world) beginRun(t *testing.T, l *memLog) *Run {
	t.Helper()
	r, err := Begin(t.Context(), l, w.trust(l, "alice", "bob"), attest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.appendSome(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestConsentWithdrawnStopsTheRunAtItsNextStep(t *testing.T) {
	w, l, r := begun(t)
	ctx := t.Context()
	if err := r.CheckConsent(ctx, statement.ScopeExecution, "start"); err != nil {
		t.Fatal(err)
	}
	l.put(t, w.by("bob", 1, &statement.ConsentWithdraw{Scopes: execution()}))
	err := r.record(ctx, Event{Kind: statement.AccessKEK, Name: "kek"})
	wantErr(t, err, NoConsent, `party "bob" withdrew its consent to execution (entry 7)`)
	err = r.CheckConsent(ctx, statement.ScopeExecution, "release")
	if err == nil || !strings.Contains(err.Error(), `no consent to execution: party "bob" withdrew`) || fault.KindOf(err) != fault.Refused {
		t.Errorf("got %v", err)
	}
	if err := r.record(ctx, Event{Kind: EventRefusal, Name: "release", Detail: err.Error()}); err != nil {
		t.Errorf("the refusal itself cannot be recorded: %v", err)
	}
	l.put(t, w.by("bob", 1, &statement.ConsentGrant{Scopes: execution()}))
	if err := r.CheckConsent(ctx, statement.ScopeExecution, "again"); err != nil {
		t.Errorf("after consent is given again: %v", err)
	}
	if err := r.CheckConsent(ctx, statement.ScopeLogging, ""); err == nil || !strings.Contains(err.Error(), "has not consented to logging") {
		t.Errorf("logging: %v", err)
	}
}

// TestRunRefusesALyingLedger has the operator answer the run's appends falsely.
func TestRunRefusesALyingLedger(t *testing.T) {
	for _, tc := range []struct {
		name string
		lie  func(t *testing.T, l *memLog)
		want string
	}{
		{"acknowledge with an old checkpoint", func(t *testing.T, l *memLog) {
			old := l.sign(l.entries)
			l.receipt = func(r Receipt) Receipt { r.Checkpoint = old; return r }
		}, "its log does not hold the record there"},
		{"acknowledge another entry", func(t *testing.T, l *memLog) { l.receipt = func(r Receipt) Receipt { r.Index--; return r } }, "its log does not hold the record there"},
		{"answer from the past", func(t *testing.T, l *memLog) {
			l.receipt = func(r Receipt) Receipt { r.Checkpoint = l.sign(l.entries[:3]); return r }
		}, "rolled back"},
		{"sign with another key", func(t *testing.T, l *memLog) {
			l.receipt = func(r Receipt) Receipt { r.Checkpoint = newMemLog(t).sign(l.entries); return r }
		}, "no verifiable signatures"},
		{"drop a party's withdrawal it has shown", func(t *testing.T, l *memLog) {
			l.receipt = func(r Receipt) Receipt {
				l.entries = append(l.entries[:6:6], l.entries[7:]...)
				r.Checkpoint = l.sign(l.entries)
				return r
			}
		}, "do not have the root"},
		{"put a forged entry in the record's place", func(t *testing.T, l *memLog) {
			l.receipt = func(r Receipt) Receipt {
				l.entries[r.Index] = []byte("forged")
				r.Checkpoint = l.sign(l.entries)
				return r
			}
		}, "does not hold the record there"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, l, r := begun(t)
			l.put(t, w.by("bob", 1, &statement.ConsentWithdraw{Scopes: execution()}))
			if err := r.CheckConsent(t.Context(), statement.ScopeExecution, ""); err == nil {
				t.Fatal("consent was withdrawn")
			}
			tc.lie(t, l)
			err := r.CheckConsent(t.Context(), statement.ScopeExecution, "")
			if err == nil || !strings.Contains(err.Error(), tc.want) || fault.KindOf(err) != fault.Refused {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

// TestRunGoesOnAfterAnAppendOfUnknownEnd: the answer was lost. Whenever the ledger
// commits, or if it never does, the run goes on and the log has each record once.
func TestRunGoesOnAfterAnAppendOfUnknownEnd(t *testing.T) {
	lost := fault.Errorf(fault.Unavailable, "", "connection reset")
	for _, tc := range []struct {
		name string
		// lose makes the append of entry be of unknown end; late commits it.
		lose func(l *memLog, late func([]byte))
	}{
		{"never appended", func(l *memLog, _ func([]byte)) {
			l.append = func([]byte) error { l.append = nil; return lost }
		}},
		{"appended before it was lost", func(l *memLog, _ func([]byte)) {
			l.appended = func() error { l.appended = nil; return lost }
		}},
		{"appended after it was looked for", func(l *memLog, late func([]byte)) {
			l.append = func(first []byte) error {
				// The ledger hangs; it commits when the run has looked, and asks again.
				l.append = func([]byte) error { l.append = nil; late(first); return nil }
				return lost
			}
		}},
		{"appended after it was sent again", func(l *memLog, late func([]byte)) {
			l.append = func(first []byte) error {
				l.append = func([]byte) error {
					l.append = func([]byte) error { l.append = nil; late(first); return nil }
					return lost
				}
				return lost
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, l, r := begun(t)
			ctx := t.Context()
			if err := r.CheckConsent(ctx, statement.ScopeExecution, ""); err != nil {
				t.Fatal(err)
			}
			tc.lose(l, func(entry []byte) {
				if _, err := l.state.Apply(int64(len(l.entries)), entry); err != nil {
					t.Errorf("what was lost is refused: %v", err)
				}
				l.entries = append(l.entries, entry)
			})
			if err := r.record(ctx, Event{Kind: statement.AccessKEK, Name: "a"}); !errors.Is(err, lost) {
				t.Fatalf("got %v", err)
			}
			for errors.Is(r.record(ctx, Event{Kind: statement.AccessKEK, Name: "b"}), lost) {
			}
			if err := r.Complete(ctx, 0, true, "", nil); err != nil {
				t.Fatal(err)
			}
			if got := r.view.State().Runs()[0]; got.Records != 5 || !got.Complete {
				t.Errorf("%+v, want five records, the last of which completes it", got)
			}
		})
	}
}

// TestWhatIsSaidTwiceIsRecordedOnce: something on the way sends an append twice, and
// the run hears the second answer.
func TestWhatIsSaidTwiceIsRecordedOnce(t *testing.T) {
	_, l, r := begun(t)
	ctx := t.Context()
	r.log = &twice{RunLog: l}
	steps := []error{
		r.CheckConsent(ctx, statement.ScopeExecution, "start"),
		r.record(ctx, Event{Kind: statement.AccessKEK, Name: "a"}, Event{Kind: statement.AccessData, Name: "b"}),
		r.Complete(ctx, 0, true, "", nil),
	}
	for i, err := range steps {
		if err != nil {
			t.Errorf("step %d: %v", i, err)
		}
	}
	if got := r.view.State().Runs()[0]; got.Records != 5 || !got.Complete {
		t.Errorf("%+v", got)
	}
	// A no stays a no, also where it is read off the log.
	_, l, r = begun(t)
	r.log = &twice{RunLog: l}
	if err := r.CheckConsent(ctx, statement.ScopeLogging, ""); err == nil || !strings.Contains(err.Error(), "has not consented to logging") {
		t.Errorf("got %v", err)
	}
}

type twice struct{ RunLog }

func (t *twice) Append(ctx context.Context, entries ...[]byte) (Receipt, error) {
	if r, err := t.RunLog.Append(ctx, entries...); err != nil {
		return r, err
	}
	return t.RunLog.Append(ctx, entries...)
}

// TestALedgerThatOnlySaysThatItHasARecordIsNotBelieved: the run does not go on.
func TestALedgerThatOnlySaysThatItHasARecordIsNotBelieved(t *testing.T) {
	_, l, r := begun(t)
	l.append = func([]byte) error { return Refuse(Replayed, "", "it is there") }
	err := r.record(t.Context(), Event{Kind: EventRefusal, Name: "s", Detail: "d"})
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "its newest checkpoint does not cover") {
		t.Errorf("got %v", err)
	}
	if !r.Begun() {
		t.Error("the run is taken for one that did not begin")
	}
}

func TestConcurrentRecordsChain(t *testing.T) {
	_, l, r := begun(t)
	ctx := t.Context()
	if err := r.CheckConsent(ctx, statement.ScopeExecution, ""); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := r.record(ctx, Event{Kind: statement.AccessData, Name: "v"}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := r.Complete(ctx, 0, true, "", nil); err != nil {
		t.Fatal(err)
	}
	v := NewView(l.key)
	if err := v.AdvanceToNewest(ctx, l, func(s Seen) {
		if s.Refused != nil {
			t.Errorf("entry %d: %v", s.Index, s.Refused)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func TestRecordGivesWayToItsContext(t *testing.T) {
	_, _, r := begun(t)
	r.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.record(ctx, Event{Kind: EventRefusal, Name: "s", Detail: "d"}); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestSinglePartyCannotForgeARunsRecords(t *testing.T) {
	w, l, r := begun(t)
	id, previous := r.ID(), r.previous
	entry := w.by("alice", 1, &statement.Completion{Run: runHead(id, previous)})
	_, err := l.Append(t.Context(), entry)
	wantErr(t, err, WrongSignature, "was given for signer")
}

func TestRunStatusIsJSON(t *testing.T) {
	_, _, r := begun(t)
	raw, err := json.Marshal(r.view.State().Runs())
	if err != nil || !strings.Contains(string(raw), `"begun":5`) {
		t.Errorf("%s %v", raw, err)
	}
}
