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
