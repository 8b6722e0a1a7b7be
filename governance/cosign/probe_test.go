package cosign

import (
	"net/http/httptest"
	"strings"
	"testing"

	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/tlog"
)

// TestProbeSaysWhereAWitnessStands: and leaves it there.
func TestProbeSaysWhereAWitnessStands(t *testing.T) {
	l, g, w := group(t)
	first := l.grow()
	for _, s := range w { // one after the other, so that all have
		one, err := New([]string{s.named}, 0)
		check(t, err)
		_, err = one.Cosign(t.Context(), first, l.prove)
		check(t, err)
	}
	w[2].door = away
	second, err := g.Cosign(t.Context(), l.grow(), l.prove)
	check(t, err)
	w[2].door = nil
	check(t, w[1].Withdraw("enough"))
	other := newLog(t) // another log by the same ledger, of the same size
	other.signer = l.signer
	more, err := tlog.StoredHashes(0, []byte("another entry"), other)
	check(t, err)
	other.hashes, other.size = more, 1
	fork := other.grow()
	down := httptest.NewServer(nil)
	down.Close()
	probe := func(named string, signed []byte) string {
		t.Helper()
		found, err := Probe(t.Context(), named, signed)
		if err != nil {
			return fault.KindOf(err).String() + " " + err.Error()
		}
		return found
	}
	for _, tc := range []struct {
		name, named string
		signed      []byte
		want        []string
	}{
		{"up to date", w[0].named, second, []string{"it cosigns the newest checkpoint"}},
		{"withdrawn", w[1].named, second, []string{fault.Unavailable.String(), "has withdrawn", "enough"}},
		{"behind", w[2].named, second, []string{fault.Unavailable.String(), "it has cosigned 1 of 2 entries"}},
		{"ahead of the ledger", w[0].named, first, []string{fault.Refused.String(), "it has cosigned a log of 2 entries, the ledger shows 1"}},
		{"of another log", w[0].named, fork, []string{fault.Refused.String(), "it has cosigned another log of 2 entries"}},
		{"down", w[0].Key() + "@" + down.URL, second, []string{fault.Unavailable.String(), "connection refused"}},
		{"another's key", w[2].Key() + "@" + strings.SplitN(w[0].named, "@", 2)[1], second, []string{fault.Unavailable.String(), "no cosignature"}},
	} {
		got := probe(tc.named, tc.signed)
		for _, want := range tc.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q, want %q", tc.name, got, want)
			}
		}
	}
	for i, want := range []int64{2, 2, 1} {
		if i == 1 {
			continue // whether it was the one that the group had or the one that was cut off is nothing to the probe
		}
		s, err := w[i].Status()
		if check(t, err); s.Ledgers[0].Size != want {
			t.Errorf("witness %d is at %d entries, it was at %d", i, s.Ledgers[0].Size, want)
		}
	}
}

// TestAskIsOfEveryWitness: one without an address too.
func TestAskIsOfEveryWitness(t *testing.T) {
	l := newLog(t)
	w := l.witness()
	all := Ask([]string{w.Key(), "nobody+00000000+AAAA"}, []string{w.named}, nil)
	if len(all) != 2 || all[1].Name != "nobody" || !strings.HasPrefix(w.Key(), all[0].Name+"+") {
		t.Fatalf("%+v", all)
	}
	if found, err := all[1].Ask(t.Context()); err != nil || !strings.Contains(found, "no address") {
		t.Errorf("%q, %v", found, err)
	}
}
