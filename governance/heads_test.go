package governance

import (
	"testing"

	"cloister/governance/statement"
)

// TestOutputHeadIsTheFurthest: of what runs say, in whatever order, the furthest
// counts, until the sink's owner pins it anew.
func TestOutputHeadIsTheFurthest(t *testing.T) {
	w := newWorld(t, "alice")
	sink := func(version uint64, id, reference string) statement.Contract {
		k := w.contract(version, "alice")
		k.Volumes = append(k.Volumes, statement.Volume{Kind: statement.SinkVolume, Name: "out", Owner: "alice",
			ID: id, KeyVersion: 1, Check: digestA[len("sha256:"):], Reference: reference})
		return k
	}
	const id, other = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"
	l := newMemLog(t)
	agree := func(version uint64, body statement.Body, k statement.Contract) {
		l.put(t, w.by("alice", version, body), w.by("alice", version, &statement.Approve{Digest: w.digest(k)}))
	}
	first := sink(1, id, "")
	agree(1, &statement.Propose{Contract: first}, first)
	begin := func() *Run {
		r, err := Begin(t.Context(), l, w.trust(l, "alice"), attest)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	say := func(r *Run, h Head) {
		if err := r.RecordJournalHead(t.Context(), "out", h); err != nil {
			t.Fatal(err)
		}
	}
	want := func(why string, h Head, known bool) {
		t.Helper()
		got, ok, err := begin().OutputHead(t.Context(), "out")
		if err != nil || ok != known || got != h {
			t.Errorf("%s: %+v, %t, %v; want %+v, %t", why, got, ok, err, h, known)
		}
	}
	want("nothing was said", Head{}, false)
	old := begin()
	for _, step := range []struct {
		why       string
		say, want Head
	}{
		{"a record", Head{1, 2, digestA}, Head{1, 2, digestA}},
		{"an earlier one", Head{1, 1, digestB}, Head{1, 2, digestA}},
		{"another of the same place", Head{1, 2, digestB}, Head{1, 2, digestA}},
		{"the manifest that ends the epoch", Head{1, 0, digestB}, Head{1, 0, digestB}},
		{"a late record of that epoch", Head{1, 9, digestA}, Head{1, 0, digestB}},
		{"the next epoch", Head{2, 1, digestA}, Head{2, 1, digestA}},
		{"an old manifest", Head{1, 0, digestA}, Head{2, 1, digestA}},
	} {
		say(old, step.say)
		want(step.why, step.want, true)
	}
	same := sink(2, id, "")
	agree(2, &statement.Amend{Contract: same}, same)
	want("an amendment of other things", Head{2, 1, digestA}, true)
	pinned := sink(3, id, "reference 1")
	agree(3, &statement.Amend{Contract: pinned}, pinned)
	want("pinned anew", Head{}, false)
	say(old, Head{7, 0, digestA})
	want("what a run of an older version says", Head{}, false)
	say(begin(), Head{2, 3, digestB})
	want("what a run of this one says", Head{2, 3, digestB}, true)
	swapped := sink(4, other, "reference 1")
	agree(4, &statement.Amend{Contract: swapped}, swapped)
	want("another volume", Head{}, false)
}
