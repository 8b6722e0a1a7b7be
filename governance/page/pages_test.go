package page_test

import (
	"fmt"
	"slices"
	"testing"

	"cloister/governance/statement"
)

// longRecord is a site of 259 entries: a contract and four runs of 64 records.
func longRecord(t *testing.T) *site {
	s := newSite(t)
	k, digest := s.contract(1)
	s.say("hospital", 1, &statement.Propose{Contract: k})
	for _, party := range []string{"hospital", "lab"} {
		s.say(party, 1, &statement.Approve{Digest: digest})
	}
	for n := range 4 {
		_, err := s.ledger.Append(t.Context(), s.manyRecords(digest, n)...)
		s.check(err)
	}
	return s
}

// TestPagesOfTheTrail: a hundred entries at once, by the buttons and by number, each
// held to what was verified; and a problem that is named leads to its entry.
func TestPagesOfTheTrail(t *testing.T) {
	s := longRecord(t)
	steps := []step{
		{Click: "#earlier"}, {Click: "#earlier"}, {Click: "#later"}, {Click: "#newest"},
		{Entry: 7, Focus: "entry-7"}, {Entry: 130, Focus: "entry-130"}, {Entry: 100_000, Focus: "entry-258"},
	}
	changed := s.serve(s.edit(func(l []string) []string { l[130] = flipSignature(l[130]); return l }))
	v := visitWith(t, call{URL: s.serve(func(string) {}), Steps: steps}, call{URL: changed, Steps: []step{{Click: "#newest"}, {Click: "#verdict .link", Focus: "entry-130"}}})
	contains(t, "verdict", v[0].Verdict, "This record holds.", "All 259 entries", "The evidence of 4 runs is not judged here")
	want := []stepped{
		{First: "entry-158", Last: "entry-59"},
		{First: "entry-99", Last: "entry-0", Disabled: []string{"earlier"}},
		{First: "entry-199", Last: "entry-100"},
		{First: "entry-258", Last: "entry-159", Disabled: []string{"newest", "later"}},
		{First: "entry-99", Last: "entry-0", Active: "entry-7", Disabled: []string{"earlier"}},
		{First: "entry-179", Last: "entry-80", Active: "entry-130"},
		{First: "entry-258", Last: "entry-159", Active: "entry-258", Disabled: []string{"newest", "later"}},
	}
	if len(v[0].Steps) != len(want) {
		t.Fatalf("%d steps of %d", len(v[0].Steps), len(want))
	}
	for i, w := range want {
		got := v[0].Steps[i]
		var first, last int
		fmt.Sscanf(w.First, "entry-%d", &first)
		fmt.Sscanf(w.Last, "entry-%d", &last)
		contains(t, fmt.Sprint("step ", i), got.Shown, fmt.Sprintf("Entries %d to %d of 259, newest first.", last, first))
		if got.First != w.First || got.Last != w.Last || !slices.Equal(got.Disabled, w.Disabled) && len(got.Disabled)+len(w.Disabled) > 0 || !slices.Equal(got.Marks, []string{"verified"}) ||
			w.Active != "" && (got.Active != w.Active || !got.Visible) {
			t.Errorf("step %d: %+v, want %+v", i, got, w)
		}
	}
	contains(t, "changed", v[1].Verdict, "This record does not hold.", "Entry 130: its signature is wrong")
	if len(v[1].Steps) != 2 {
		t.Fatalf("%d steps", len(v[1].Steps))
	}
	if got := v[1].Steps[1]; got.Active != "entry-130" || !got.Visible || !slices.Contains(got.Marks, "not authentic") || slices.Contains(got.Marks, "verified") {
		t.Errorf("the problem leads to %+v", got)
	}
}
