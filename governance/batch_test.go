package governance

import (
	"errors"
	"strings"
	"testing"

	"cloister/governance/statement"
	"cloister/internal/fault"
)

// fetches are a question and records of so many accesses.
func fetches(names ...string) []Event {
	events := []Event{{Kind: EventConsent, Name: "start"}}
	for _, name := range names {
		events = append(events, Event{Kind: statement.AccessWrappedDEK, Name: name})
	}
	return events
}

// types are those of the log's entries from one on, each accepted by the fold.
func types(t *testing.T, l *memLog, from int64) string {
	t.Helper()
	var list []string
	v := NewView(l.key)
	if err := v.AdvanceToNewest(t.Context(), l, func(s Seen) {
		if s.Refused != nil {
			t.Errorf("entry %d: %v", s.Index, s.Refused)
		} else if s.Index >= from {
			list = append(list, string(s.Statement.Body.Type()))
		}
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, " ")
}

// TestOneAppendOfARunsFirstStatements: run-begin goes with them, and each is an
// entry of its own that names the one before.
func TestOneAppendOfARunsFirstStatements(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	l := newMemLog(t)
	l.put(t, w.accepted("alice", "bob")...)
	r, err := Begin(t.Context(), l, w.trust(l, "alice", "bob"), attest)
	if err != nil {
		t.Fatal(err)
	}
	before := l.appends
	if len(l.entries) != 5 || r.Begun() {
		t.Errorf("%d entries before the first statement", len(l.entries))
	}
	if n, err := r.Record(t.Context(), fetches("a", "b")...); n != 3 || err != nil || !r.Begun() {
		t.Fatal(n, err)
	}
	if got := types(t, l, 5); got != "run-begin consent-check record-access record-access" || l.appends != before+1 {
		t.Errorf("%s in %d appends", got, l.appends-before)
	}
	if runs := r.view.State().Runs(); len(runs) != 1 || runs[0].Records != 4 {
		t.Errorf("%+v", runs)
	}
}

// TestARefusalInTheMiddleEndsTheAppend, and the run goes on from what is there.
func TestARefusalInTheMiddleEndsTheAppend(t *testing.T) {
	_, l, r := begun(t)
	ctx := t.Context()
	events := append(fetches("a"), Event{Kind: EventExecution, Name: "app"}, Event{Kind: EventExecution, Name: "app"},
		Event{Kind: statement.AccessData, Name: "never"})
	n, err := r.Record(ctx, events...)
	wantErr(t, err, WrongState, `application "app" of run `)
	if got := types(t, l, 6); n != 3 || got != "consent-check record-access record-execution" {
		t.Errorf("%d accepted: %s", n, got)
	}
	if err := r.record(ctx, Event{Kind: statement.AccessData, Name: "b"}); err != nil {
		t.Errorf("the run does not go on: %v", err)
	}
}

// TestAStatementAfterANoIsNotAppended: the question is, with its answer.
func TestAStatementAfterANoIsNotAppended(t *testing.T) {
	w, l, r := begun(t)
	l.put(t, w.by("bob", 1, &statement.ConsentWithdraw{Scopes: execution()}))
	n, err := r.Record(t.Context(), fetches("a")...)
	if n != 0 || fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), `no consent to execution: party "bob" withdrew`) {
		t.Errorf("%d, %v", n, err)
	}
	if got := types(t, l, 7); got != "consent-check" {
		t.Errorf("appended %s", got)
	}
	// Of two questions, each has its own answer.
	n, err = r.Record(t.Context(), Event{Kind: EventRefusal, Name: "s", Detail: "d"}, Event{Kind: EventConsent, Name: "x"}, Event{Kind: EventConsent, Name: "y"})
	if n != 1 || err == nil {
		t.Errorf("%d, %v", n, err)
	}
}

// TestAppendOfWhichOnlyTheFirstArrived: the answer was lost and so were the
// last entries. The run finds out how far it got, and sends the rest again.
func TestAppendOfWhichOnlyTheFirstArrived(t *testing.T) {
	lost := fault.Errorf(fault.Unavailable, "", "connection reset")
	for arrived := range 4 {
		_, l, r := begun(t)
		seen := 0
		l.append = func([]byte) error {
			if seen++; seen == arrived+1 {
				return lost
			}
			return nil
		}
		if n, err := r.Record(t.Context(), fetches("a", "b", "c")...); n != 0 || !errors.Is(err, lost) {
			t.Fatalf("%d arrived: %d, %v", arrived, n, err)
		}
		if _, err := r.Record(t.Context(), fetches("a", "b", "c")...); err != nil {
			t.Errorf("%d arrived: %v", arrived, err)
		}
		if got := r.sequence; got != 1+4+4 {
			t.Errorf("%d arrived: the run is at %d", arrived, got)
		}
	}
}

// TestALedgerThatLiesAboutAnAppend acknowledges what its log does not hold.
func TestALedgerThatLiesAboutAnAppend(t *testing.T) {
	for name, lie := range map[string]func(l *memLog, r Receipt) Receipt{
		"the last dropped": func(l *memLog, r Receipt) Receipt {
			l.entries = l.entries[:len(l.entries)-1]
			r.Checkpoint = l.sign(l.entries)
			return r
		},
		"fewer":       func(_ *memLog, r Receipt) Receipt { r.Count--; return r },
		"more":        func(_ *memLog, r Receipt) Receipt { r.Count++; return r },
		"less than 0": func(_ *memLog, r Receipt) Receipt { r.Count = -1; return r },
		"another's between": func(l *memLog, r Receipt) Receipt {
			n := len(l.entries)
			l.entries = append(l.entries[:n-1:n-1], []byte("forged"), l.entries[n-1])
			r.Checkpoint = l.sign(l.entries)
			return r
		},
	} {
		_, l, r := begun(t)
		l.receipt = func(receipt Receipt) Receipt { return lie(l, receipt) }
		if n, err := r.Record(t.Context(), fetches("a", "b")...); n != 0 || fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "ledger acknowledged") {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

// TestMoreThanOneAppendTakes go in several.
func TestMoreThanOneAppendTakes(t *testing.T) {
	_, l, r := begun(t)
	before := l.appends
	names := make([]string, 2*MaxAppend)
	for i := range names {
		names[i] = "n"
	}
	if n, err := r.Record(t.Context(), fetches(names...)...); n != len(names)+1 || err != nil || l.appends != before+3 {
		t.Errorf("%d, %v in %d appends", n, err, l.appends-before)
	}
}

// TestCheckAllChangesNothing: not even what the last entries depend on.
func TestCheckAllChangesNothing(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	entries := w.accepted("alice", "bob")
	var s State
	if n, err := s.CheckAll(entries); n != len(entries) || err != nil || s.Status() != Draft {
		t.Fatal(n, err, s.Status())
	}
	for i, e := range entries {
		if n, err := s.CheckAll(append([][]byte{e}, entries...)); n != 1 && i == 0 || err == nil {
			t.Errorf("a replay after entry %d: %d, %v", i, n, err)
		}
		if _, err := s.Apply(int64(i), e); err != nil {
			t.Fatal(err)
		}
	}
	if s.Status() != Accepted {
		t.Error(s.Status())
	}
}
