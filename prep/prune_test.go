package prep_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloister/fs/format"
	"cloister/fs/store/storetest"
	"cloister/internal/fault"
	"cloister/prep"
)

// threeEpochs has a file that all hold, one that each replaces, and one that
// only the first has.
func threeEpochs(t *testing.T) (*storetest.Memory, string, []*prep.Sealed) {
	source := filepath.Join(t.TempDir(), "in")
	write(t, source+"/stays", noise(1<<20, 1))
	write(t, source+"/goes", noise(1<<20, 2))
	s := new(storetest.Memory)
	var sealed []*prep.Sealed
	for i := range 3 {
		write(t, source+"/changes", noise(1<<20+i, uint64(10+i)))
		sealed = append(sealed, encrypt(t, s, source))
		os.Remove(source + "/goes")
	}
	return s, source, sealed
}

func prune(s prep.Store, o prep.PruneOptions) (*prep.Pruned, error) {
	o.Root = testRoot()
	return prep.Prune(context.Background(), s, o)
}

func TestPrune(t *testing.T) {
	s, source, sealed := threeEpochs(t)
	whole := objects(t, s)
	r, err := prune(s, prep.PruneOptions{KeepLast: 1, DryRun: true})
	if err != nil || r.Objects != 3 || len(objects(t, s)) != len(whole) {
		t.Fatalf("dry run: %+v, %v", r, err)
	}
	// The first is kept by name: only the second's own object goes.
	r, err = prune(s, prep.PruneOptions{Keep: []format.Reference{sealed[0].Reference}})
	if err != nil || r.Objects != 1 || !slices.Equal(r.Epochs, []uint64{2}) || !slices.Equal(r.Kept, []uint64{1, 3}) {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, i := range []int{0, 2} {
		if _, err := decrypt(s, filepath.Join(t.TempDir(), "out"), &sealed[i].Reference); err != nil {
			t.Errorf("epoch %d: %v", i+1, err)
		}
	}
	r, err = prune(s, prep.PruneOptions{KeepLast: 1})
	if err != nil || r.Objects != 2 || r.Left != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	mustRoundTrip(t, s, source, sealed[2].Reference, false)
	mustHaveNothingOver(t, s)
	if again := encrypt(t, s, source); again.Epoch != 4 || again.ReusedFiles != 2 {
		t.Errorf("the epoch after: %+v", again)
	}
}

func TestPruneRefuses(t *testing.T) {
	s, _, sealed := threeEpochs(t)
	other, _, _ := threeEpochs(t)
	foreign := sealed[0].Reference
	foreign.Epoch = 9
	damaged := objects(t, s)
	damaged[format.ManifestName(1)] = damaged[format.ManifestName(1)][:200]
	for what, tc := range map[string]struct {
		s    prep.Store
		o    prep.PruneOptions
		kind fault.Kind
	}{
		"nothing to keep":        {s, prep.PruneOptions{}, fault.Usage},
		"a state it has not":     {s, prep.PruneOptions{KeepLast: 1, Keep: []format.Reference{foreign}}, fault.Refused},
		"another volume's state": {other, prep.PruneOptions{KeepLast: 1, Keep: []format.Reference{sealed[0].Reference}}, fault.Refused},
		"a damaged manifest":     {storeOf(t, damaged), prep.PruneOptions{KeepLast: 1}, fault.Refused},
		"no volume":              {new(storetest.Memory), prep.PruneOptions{KeepLast: 1}, fault.NotFound},
	} {
		before := len(objects(t, tc.s))
		if _, err := prune(tc.s, tc.o); fault.KindOf(err) != tc.kind {
			t.Errorf("%s: %v, want %v", what, err, tc.kind)
		}
		if len(objects(t, tc.s)) != before {
			t.Errorf("%s: something was removed", what)
		}
	}
	if _, err := prep.Prune(context.Background(), s, prep.PruneOptions{Root: format.NewRootSecret(), KeepLast: 1}); !errors.Is(err, format.ErrWrongKey) {
		t.Errorf("another key: %v", err)
	}
}

// TestPruneBesideAWriter prunes at every put of a writer: it must end well, and
// so must one that goes on with what it left when it is stopped there.
func TestPruneBesideAWriter(t *testing.T) {
	for nth := 1; nth <= 7; nth++ {
		s, source, _ := threeEpochs(t)
		write(t, source+"/new1", noise(1<<20, 30))
		write(t, source+"/new2", noise(1<<20, 31))
		pruned := storetest.Fault{Op: storetest.Put, Nth: nth, Hook: func(storetest.Call) {
			if _, err := prune(s, prep.PruneOptions{KeepLast: 1}); err != nil {
				t.Error(err)
			}
		}}
		sealed, err := prep.Encrypt(context.Background(), &storetest.Faulty{Store: s, Faults: []storetest.Fault{pruned}}, prep.EncryptOptions{Source: source, Root: testRoot()})
		if err != nil {
			t.Fatalf("pruned at put %d: %v", nth, err)
		}
		mustRoundTrip(t, s, source, sealed.Reference, false)
	}
}

// TestPruneAfterALostRace finds the loser's objects by its records.
func TestPruneAfterALostRace(t *testing.T) {
	s, source, _ := threeEpochs(t)
	write(t, source+"/mine", noise(1<<20, 40))
	lost := storetest.Fault{Op: storetest.Put, Name: format.ManifestPrefix, Hook: func(storetest.Call) {
		os.Remove(source + "/mine")
		write(t, source+"/theirs", noise(1<<20, 41))
		encrypt(t, s, source)
	}}
	_, err := prep.Encrypt(context.Background(), &storetest.Faulty{Store: s, Faults: []storetest.Fault{lost}}, prep.EncryptOptions{Source: source, Root: testRoot()})
	if fault.KindOf(err) != fault.Conflict {
		t.Fatal(err)
	}
	if r, err := prune(s, prep.PruneOptions{KeepLast: 9}); err != nil || r.Objects != 1 || r.Left != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	mustHaveNothingOver(t, s)
}

// TestPruneOrphans leaves what an upload at work may just have put, unless it
// is told that there is none.
func TestPruneOrphans(t *testing.T) {
	s, _, _ := threeEpochs(t)
	ctx := context.Background()
	for i := range 2 {
		if err := s.Put(ctx, fmt.Sprintf("data/%032x", i), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := prune(s, prep.PruneOptions{KeepLast: 3}); err != nil || r.Left != 2 || r.Objects != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := prune(s, prep.PruneOptions{KeepLast: 3, NoWriters: true}); err != nil || r.Objects != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	mustHaveNothingOver(t, s)
	for name := range maps.Keys(objects(t, s)) {
		if strings.HasSuffix(name, "0000") {
			t.Errorf("%s is left", name)
		}
	}
}

func TestChecksum(t *testing.T) {
	s, source, sealed := threeEpochs(t)
	if err := os.Chtimes(source+"/stays", old.AddDate(1, 0, 0), old.AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	write(t, source+"/changes", noise(1<<20+2, 50)) // same size and time
	r, err := prep.Encrypt(context.Background(), s, prep.EncryptOptions{Source: source, Root: testRoot(), Checksum: true})
	if err != nil || r.ReusedFiles != 1 || r.NewObjects != 1 || r.Epoch != sealed[2].Epoch+1 {
		t.Fatalf("%+v, %v", r, err)
	}
	mustRoundTrip(t, s, source, r.Reference, false)
}
