package governance

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/policy/spec"
)

// restored is a state saved and restored, which is the same.
func restored(t failer, s *State) (again State) {
	t.Helper()
	raw, err := json.Marshal(s.save())
	if err != nil {
		t.Fatalf("%v", err)
	}
	var saved savedState
	if err := json.Unmarshal(raw, &saved); err != nil {
		t.Fatalf("%v", err)
	}
	if err := saved.restore(&again); err != nil {
		t.Fatalf("restoring %s: %v", raw, err)
	}
	if !reflect.DeepEqual(again, *s) {
		t.Fatalf("%s is restored to\n%+v, it was\n%+v", raw, again, *s)
	}
	return again
}

// richLog is of a contract about which everything has been said that a State keeps.
func richLog(t *testing.T) *memLog {
	w, l := newWorld(t, "alice", "bob", "alice2", "recovery"), newMemLog(t)
	k := w.contract(1, "alice", "bob")
	raw := []byte("{}")
	k.Specification = spec.DigestOf(raw)
	k.Parties[0].Recovery = w.keys["recovery"].Public().SPKI()
	k.Volumes = append(k.Volumes, statement.Volume{Kind: statement.SinkVolume, Name: "out", Owner: "bob", ID: runA, KeyVersion: 1, Check: runA + runB})
	expires := statement.NewTime(w.now.Add(time.Hour))
	l.put(t, w.by("alice", 1, &statement.Propose{Contract: k, Specification: raw}),
		w.rotate("alice2", "alice", "alice2", "recovery"))
	for _, name := range []string{"alice2", "bob"} {
		l.put(t, w.by(name, 1, &statement.Approve{Digest: w.digest(k)}))
	}
	for _, name := range []string{"alice2", "bob"} {
		l.put(t, w.by(name, 1, &statement.ConsentGrant{Expires: &expires, Runs: 2, Scopes: []string{statement.ScopeExecution, statement.ScopeLogging}}))
	}
	l.put(t, w.by("bob", 1, &statement.ProvisionRequest{Volumes: []string{"in"}}),
		w.by("alice2", 1, &statement.Provisioned{Resources: []statement.Resource{{Kind: "kek", Name: "in", Reference: "r"}}}),
		w.by("bob", 1, &statement.ConsentWithdraw{Reason: "gone", Scopes: []string{statement.ScopeLogging}}))
	evidence, err := testEvidence().Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{runA, runB} {
		w.addKey(id, statement.Ed25519)
		sequence, previous := uint64(1), ""
		say := func(entry []byte) {
			l.put(t, entry)
			sequence, previous = sequence+1, statement.EntryDigest(entry)
		}
		next := func(body func(statement.Run) statement.Body) {
			say(w.sign(id, 1, sequence, body(runHead(id, previous))))
		}
		say(w.begin(id, id, 1, 1, w.digest(k)))
		for _, scope := range []string{statement.ScopeExecution, statement.ScopeLogging} {
			next(func(r statement.Run) statement.Body {
				return &statement.ConsentCheck{Evidence: evidence, Nonce: runA + runB, Run: r, Scope: scope}
			})
		}
		next(func(r statement.Run) statement.Body {
			return &statement.RecordExecution{Application: "app", Phase: statement.PhaseStart, Run: r}
		})
		next(func(r statement.Run) statement.Body {
			return &statement.JournalHead{Epoch: 2, Head: digestA, Run: r, Sequence: 3, Volume: "out"}
		})
		if id == runA {
			next(func(r statement.Run) statement.Body { return &statement.Completion{Detail: "stopped", Run: r} })
		}
	}
	l.put(t, w.by("bob", 1, &statement.Withdraw{Reason: "enough"}))
	l.entries = append(l.entries, retype(t, w.by("bob", 1, &statement.Withdraw{}))) // of a newer Cloister
	return l
}

// viewOf is a new view at the log's newest checkpoint.
func viewOf(t *testing.T, l *memLog) *View {
	t.Helper()
	v := NewView(l.key)
	if err := v.AdvanceToNewest(t.Context(), l, nil); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestASnapshotHoldsAllThatAStateKeeps: a member that State gets and a snapshot does
// not have fails this test.
func TestASnapshotHoldsAllThatAStateKeeps(t *testing.T) {
	s := viewOf(t, richLog(t)).State()
	for i := range reflect.TypeFor[State]().NumField() {
		if name := reflect.TypeFor[State]().Field(i).Name; name != "Evidence" && reflect.ValueOf(*s).Field(i).IsZero() {
			t.Errorf("nothing in the log is about State.%s, so the test does not see whether it is saved", name)
		}
	}
	restored(t, s)
}

func TestARestoredViewGoesOn(t *testing.T) {
	w, l := auditedLog(t)
	v := viewOf(t, l)
	raw, err := v.Save()
	if err != nil {
		t.Fatal(err)
	}
	l.put(t, w.by("bob", 1, &statement.Withdraw{}))
	again, err := RestoreView(l.key, Witnesses{}, raw)
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, v := range []*View{v, again} {
		if err := v.AdvanceToNewest(t.Context(), l, func(Seen) { read++ }); err != nil {
			t.Fatal(err)
		}
	}
	if read != 2 || again.State().Status() != Withdrawn || again.Tree().Root() != v.Tree().Root() || !reflect.DeepEqual(again, v) {
		t.Errorf("%d entries read, %s, the restored view is\n%+v, the other\n%+v", read, again.State().Status(), again, v)
	}
}

func TestASnapshotIsOfOneCheckpoint(t *testing.T) {
	_, l := auditedLog(t)
	raw, err := viewOf(t, l).Save()
	if err != nil {
		t.Fatal(err)
	}
	other := newMemLog(t)
	var saved snapshot
	if err := json.Unmarshal(raw, &saved); err != nil {
		t.Fatal(err)
	}
	saved.Tree[0][0] ^= 1
	tree, _ := json.Marshal(saved)
	saved.Tree = saved.Tree[1:]
	shorter, _ := json.Marshal(saved)
	for name, c := range map[string]struct {
		key  string
		w    Witnesses
		raw  []byte
		want string
	}{
		"another ledger": {other.key, Witnesses{}, raw, "checkpoint"},
		"no cosignature": {l.key, Witnesses{Keys: []string{other.key}}, raw, "witness"},
		"another tree":   {l.key, Witnesses{}, tree, "tree"},
		"a part of it":   {l.key, Witnesses{}, shorter, "tree"},
		"not JSON":       {l.key, Witnesses{}, raw[1:], "reading a snapshot"},
	} {
		if _, err := RestoreView(c.key, c.w, c.raw); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := NewView(l.key).Save(); fault.KindOf(err) != fault.Internal {
		t.Errorf("a view of nothing is saved: %v", err)
	}
}
