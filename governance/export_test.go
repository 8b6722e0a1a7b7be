package governance

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"cloister/governance/statement"
)

func exported(t *testing.T, l *memLog, run string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Export(t.Context(), &b, l, NewView(l.key), run); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func auditExport(t *testing.T, key string, raw []byte) (Report, error) {
	t.Helper()
	x, err := OpenExport(bytes.NewReader(raw))
	if err != nil {
		return Report{}, err
	}
	a := Auditor{Key: key}
	if x.Head.Run != "" {
		return a.AuditRun(x)
	}
	return a.Audit(t.Context(), x)
}

func TestExportOfTheWholeLogIsAuditedAsTheLogIs(t *testing.T) {
	_, l := auditedLog(t)
	want, err := (&Auditor{Key: l.key}).Audit(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	got, err := auditExport(t, l.key, exported(t, l, ""))
	if err != nil || got.Err() != nil || findings(got) != findings(want) {
		t.Errorf("%v\n%s\nwant\n%s", err, findings(got), findings(want))
	}
}

func TestExportOfARunIsProven(t *testing.T) {
	_, l := auditedLog(t)
	view := NewView(l.key)
	if err := view.AdvanceToNewest(t.Context(), l, nil); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"end true: completed", "end true: INCOMPLETE: no completion"} {
		r, err := auditExport(t, l.key, exported(t, l, view.State().Runs()[i].ID))
		if err != nil || r.Err() != nil || !strings.Contains(findings(r), want) {
			t.Errorf("%v\n%s", err, findings(r))
		}
	}
	if err := Export(t.Context(), &bytes.Buffer{}, l, NewView(l.key), "none"); err == nil {
		t.Error("a run that is not there is exported")
	}
}

// TestTamperedExportsAreSeen: each line dropped, doubled, put elsewhere, or with
// one bit of the entry changed.
func TestTamperedExportsAreSeen(t *testing.T) {
	_, l := auditedLog(t)
	view := NewView(l.key)
	if err := view.AdvanceToNewest(t.Context(), l, nil); err != nil {
		t.Fatal(err)
	}
	for _, run := range []string{"", view.State().Runs()[0].ID} {
		lines := bytes.SplitAfter(bytes.TrimSuffix(exported(t, l, run), []byte("\n")), []byte("\n"))
		refused := func(what string, lines ...[]byte) {
			t.Helper()
			if r, err := auditExport(t, l.key, bytes.Join(lines, nil)); err == nil && r.Err() == nil {
				t.Errorf("run %q, %s: not seen", run, what)
			}
		}
		for i := 1; i < len(lines)-1; i++ {
			cut := append([][]byte{}, lines[:i]...)
			refused("dropped", append(cut, lines[i+1:]...)...)
			refused("doubled", append(append(append([][]byte{}, lines[:i+1]...), lines[i]), lines[i+1:]...)...)
			swapped := append([][]byte{}, lines...)
			swapped[i], swapped[i+1] = append(bytes.TrimSuffix(lines[i+1], []byte("\n")), '\n'), lines[i]
			refused("swapped", swapped...)
			flipped := append([][]byte{}, lines...)
			flipped[i] = bytes.Clone(lines[i])
			flipped[i][30] ^= 1
			refused("flipped", flipped...)
		}
		other := bytes.Replace(lines[0], []byte(`\n\n`), []byte(`\n1\n`), 1)
		refused("checkpoint", append([][]byte{other}, lines[1:]...)...)
	}
	if _, err := OpenExport(strings.NewReader(`{"type":"another"}`)); err == nil {
		t.Error("another document is opened")
	}
}

func TestExportOfARunNeedsTheWitnesses(t *testing.T) {
	_, l := auditedLog(t)
	one := newCosigner(t, "w.one")
	audit := func() Report {
		view := NewView(l.key)
		if err := view.AdvanceToNewest(t.Context(), l, nil); err != nil {
			t.Fatal(err)
		}
		x, err := OpenExport(bytes.NewReader(exported(t, l, view.State().Runs()[0].ID)))
		if err != nil {
			t.Fatal(err)
		}
		r, err := (&Auditor{Key: l.key, Witnesses: Witnesses{Keys: []string{one.vkey}}}).AuditRun(x)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := audit(); r.Err() == nil || !strings.Contains(findings(r), "1 are needed") {
		t.Errorf("without a cosignature: %s", findings(r))
	}
	l.checkpoint = func(signed []byte) []byte { return one.at(signed, time.Now()) }
	if r := audit(); r.Err() != nil || !strings.Contains(findings(r), "1 of 1 witnesses") {
		t.Errorf("with it: %v\n%s", r.Err(), findings(r))
	}
}

// TestExportOfARunAfterARotation: the version that the run carries out is signed
// with a key that took the place of the one that the contract names.
func TestExportOfARunAfterARotation(t *testing.T) {
	w := newWorld(t, "alice", "bob", "recovery", "alice2")
	l := newMemLog(t)
	k := w.recovering(1, "alice", "bob")
	l.put(t, w.by("alice", 1, &statement.Propose{Contract: k}), w.by("alice", 1, &statement.Approve{Digest: w.digest(k)}), w.by("bob", 1, &statement.Approve{Digest: w.digest(k)}),
		w.rotate("alice2", "alice", "alice2", "recovery"))
	k = w.recovering(2, "alice", "bob")
	l.put(t, w.by("alice2", 2, &statement.Amend{Contract: k}))
	for _, name := range []string{"alice2", "bob"} {
		l.put(t, w.by(name, 2, &statement.Approve{Digest: w.digest(k)}))
	}
	r := w.beginRun(t, l)
	if err := r.Complete(t.Context(), 0, true, "", nil); err != nil {
		t.Fatal(err)
	}
	raw := exported(t, l, r.ID())
	report, err := auditExport(t, l.key, raw)
	if err != nil || report.Err() != nil || !strings.Contains(findings(report), "end true: completed") {
		t.Errorf("%v, %v\n%s", err, report.Err(), findings(report))
	}
	lines := bytes.SplitAfter(raw, []byte("\n"))
	report, err = auditExport(t, l.key, bytes.Join(append(lines[:1:1], lines[2:]...), nil))
	if err != nil || report.Err() == nil || !strings.Contains(findings(report), "is of no party of the contract") {
		t.Errorf("without the rotation: %v\n%s", err, findings(report))
	}
	// Nobody's key takes another's place by being in the export.
	w.addKey("eve", statement.P256)
	w.addKey("eve2", statement.P256)
	for _, signers := range [][]string{{"eve", "eve2", "bob"}, {"alice", "eve", "eve2"}, {"alice", "eve"}} {
		o, err := statement.Open(w.rotate("eve", signers...))
		if err != nil {
			t.Fatal(err)
		}
		v, err := new(State).newVersion(k, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := State{contract: k, keys: v.keys}
		s.vouch()
		if s.replay(o); s.keys[w.keys["eve"].Public().Fingerprint()].party != "" {
			t.Errorf("a rotation that %v signed counts", signers)
		}
	}
}

// TestExportOfARunIsHeldToTheRememberedHead: a ledger that signed two logs of one
// size is found out by what it exports of either.
func TestExportOfARunIsHeldToTheRememberedHead(t *testing.T) {
	_, l := auditedLog(t)
	view := NewView(l.key)
	if err := view.AdvanceToNewest(t.Context(), l, nil); err != nil {
		t.Fatal(err)
	}
	raw := exported(t, l, view.State().Runs()[0].ID)
	forked := append(append([][]byte(nil), l.entries[:len(l.entries)-1]...), []byte("x"))
	for _, tc := range []struct {
		name       string
		remembered []byte
		ok         bool
		want       string
	}{
		{"the same log", l.sign(l.entries), true, "remembered head true: the log is the one"},
		{"a shorter one", l.sign(l.entries[:4]), true, "remembered head true: not judged"},
		{"another of that size", l.sign(forked), false, "remembered head false: the ledger signed another log of 10 entries"},
		{"another ledger's", newMemLog(t).sign(nil), false, "remembered head false"},
	} {
		x, err := OpenExport(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		r, err := (&Auditor{Key: l.key, Remembered: tc.remembered}).AuditRun(x)
		if err != nil || (r.Err() == nil) != tc.ok || !strings.Contains(findings(r), tc.want) {
			t.Errorf("%s: %v\n%s", tc.name, err, findings(r))
		}
	}
}

// TestGapsInARunsSequenceAreNamedOffline: each record of a run left out of its
// export is missed by name, but the last, without which the run has no end.
func TestGapsInARunsSequenceAreNamedOffline(t *testing.T) {
	_, l := auditedLog(t)
	view := NewView(l.key)
	if err := view.AdvanceToNewest(t.Context(), l, nil); err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(exported(t, l, view.State().Runs()[0].ID), []byte("\n"))
	lines = lines[:len(lines)-1] // head, contract version, and the four records
	if len(lines) != 6 {
		t.Fatalf("%d lines", len(lines))
	}
	for left, want := range map[int]string{2: "before the run's beginning", 3: "record 3 of run", 4: "record 4 of run", 5: "INCOMPLETE"} {
		r, err := auditExport(t, l.key, bytes.Join(append(append([][]byte{}, lines[:left]...), lines[left+1:]...), nil))
		if err != nil || !strings.Contains(findings(r), want) || (r.Err() == nil) != (left == 5) {
			t.Errorf("without line %d: %v\n%s", left, err, findings(r))
		}
	}
}
