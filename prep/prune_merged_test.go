package prep_test

import (
	"os"
	"path/filepath"
	"testing"

	"cloister/fs/format"
	"cloister/internal/fault"
	"cloister/prep"
)

// TestPruneKeepsWhatWasMerged: data that a merged epoch needs is not removed
// from its source, whoever the merged volume is for; what no merged epoch needs
// is, and the rest once the merged volume has gone on without it.
func TestPruneKeepsWhatWasMerged(t *testing.T) {
	p := newPrefix(t)
	folder := p.folder(map[string]int{"goes": 2 << 20, "stays": 2 << 20})
	encrypt(t, p.store("region/r1"), folder)
	first := p.mustMerge(prep.MergeOptions{}, "region/r1")
	p.check(os.Remove(folder + "/goes"))
	encrypt(t, p.store("region/r1"), folder)
	source := p.store("region/r1")
	above := []prep.Above{{Store: p.store("region"), Place: "r1"}, {Store: p.store(""), Place: "region/r1"}}
	refuses := func(what string, kind fault.Kind, o prep.PruneOptions) {
		t.Helper()
		before := len(objects(t, p.store("")))
		if _, err := prune(source, o); fault.KindOf(err) != kind {
			t.Errorf("%s: %v, want %v", what, err, kind)
		}
		if after := len(objects(t, p.store(""))); after != before {
			t.Errorf("%s: %d objects of %d are left", what, after, before)
		}
	}
	refuses("merged", fault.Conflict, prep.PruneOptions{KeepLast: 1, Above: above})
	refuses("merged, dry run", fault.Conflict, prep.PruneOptions{KeepLast: 1, Above: above, DryRun: true})
	if _, err := decrypt(p.store(""), filepath.Join(t.TempDir(), "out"), &first.Reference); err != nil {
		t.Error(err)
	}
	if r, err := prune(source, prep.PruneOptions{KeepLast: 2, Above: above}); err != nil || r.Objects != 0 {
		t.Errorf("nothing goes: %+v, %v", r, err)
	}

	// Merged again: the first merged epoch still needs it, until it is pruned.
	second := p.mustMerge(prep.MergeOptions{}, "region/r1")
	refuses("merged again", fault.Conflict, prep.PruneOptions{KeepLast: 1, Above: above})
	if _, err := prune(p.store(""), prep.PruneOptions{KeepLast: 1}); err != nil {
		t.Fatal(err)
	}
	if r, err := prune(source, prep.PruneOptions{KeepLast: 1, Above: above}); err != nil || r.Objects != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	mustRoundTrip(t, p.store(""), folder, second.Reference, false)

	// A volume above that nobody here can open may have been merged from it.
	write(t, folder+"/more", noise(2<<20, 9))
	encrypt(t, p.store("region/r1"), folder)
	p.check(os.Remove(folder + "/more"))
	encrypt(t, p.store("region/r1"), folder)
	p.output("region", format.NewRootSecret(), nil, map[string]int{"x": 1})
	refuses("sealed for others", fault.Refused, prep.PruneOptions{KeepLast: 1, Above: above})
	if r, err := prune(source, prep.PruneOptions{KeepLast: 1, Above: above, BreakMerged: true}); err != nil || r.Objects != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}
