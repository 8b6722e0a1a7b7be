package governance

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"

	"cloister/governance/statement"
)

func TestLinesSayWhoDidWhat(t *testing.T) {
	_, l := auditedLog(t)
	var b bytes.Buffer
	table, view := NewTable(&b), NewView(l.key)
	if err := view.AdvanceToNewest(t.Context(), l, func(s Seen) {
		if err := table.Add(LineOf(s, view.State())); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) != 11 {
		t.Fatal(len(rows), err)
	}
	for i, want := range map[int]string{
		1: "alice||proposes version 1 of trial: parties alice, bob; source in of alice", 3: "bob||approves sha256:", 5: "bob||consents to execution",
		6: "enclave|" + view.State().Runs()[0].ID + "|begins run ", 7: "|asks for consent to execution: yes", 8: "|accesses kek kek", 9: "|is complete",
	} {
		if got := rows[i][5] + "|" + rows[i][6] + "|" + rows[i][8]; !strings.Contains(got, want) {
			t.Errorf("row %d: %s, want %s", i, got, want)
		}
	}
}

func TestLinesOfRotationsAndRequests(t *testing.T) {
	w := newWorld(t, "alice", "bob", "alice2")
	key := w.keys["alice2"].Public()
	for want, body := range map[string]statement.Body{
		"replaces its signing key by " + key.Fingerprint(): &statement.Rotate{Key: key.SPKI(), Party: "alice"},
		"asks for the keys of in":                          &statement.ProvisionRequest{Volumes: []string{"in"}},
		"will not provision in (no budget)":                &statement.ProvisionDecline{Volumes: []string{"in"}, Reason: "no budget"},
	} {
		if got := wordsOf(body); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestNoCellIsAFormula(t *testing.T) {
	for _, s := range []string{"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1"} {
		if got := plainCell(s); got != "'"+s {
			t.Errorf("%q becomes %q", s, got)
		}
	}
	if plainCell("a=1") != "a=1" || plainCell("") != "" {
		t.Error("a plain cell is changed")
	}
}
