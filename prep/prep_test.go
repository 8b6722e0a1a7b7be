package prep_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloister/fs/format"
	"cloister/fs/store"
	"cloister/fs/store/storetest"
	"cloister/internal/fault"
	"cloister/prep"
)

func TestRoundTripOfARealTree(t *testing.T) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(goroot)), "src", "net")
	s, err := store.Open(context.Background(), filepath.Join(t.TempDir(), "volume"), store.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sealed := encrypt(t, s, source)
	if sealed.Files < 300 || sealed.Epoch != 1 {
		t.Errorf("sealed %+v: that is not %s", sealed, source)
	}
	mustRoundTrip(t, s, source, sealed.Reference, false)
	again := encrypt(t, s, source)
	if again.Epoch != 2 || again.NewObjects != 0 || again.ReusedFiles != sealed.Files {
		t.Errorf("sealed again: %+v; want all files used again", again)
	}
	mustRoundTrip(t, s, source, again.Reference, false)
}

// smallVolume is a volume of two data objects, one of packed files.
func smallVolume(t *testing.T) (map[string][]byte, *prep.Sealed, string) {
	source := filepath.Join(t.TempDir(), "in")
	write(t, source+"/a", []byte("alpha"))
	write(t, source+"/d/b", noise(40, 1))
	s := new(storetest.Memory)
	encrypt(t, s, source)
	write(t, source+"/d/c", noise(60, 2))
	sealed := encrypt(t, s, source)
	all := objects(t, s)
	if len(all) != 4 {
		t.Fatalf("the volume has objects %v, want two data objects and two manifests", slices.Collect(maps.Keys(all)))
	}
	return all, sealed, source
}

// TestEveryChangedByteIsFound changes every byte of every object of a volume,
// each in a bit of its own: verify must fail, name the object, and, for data,
// name the files and no others; decrypt must write nothing.
func TestEveryChangedByteIsFound(t *testing.T) {
	all, sealed, source := smallVolume(t)
	target := filepath.Join(t.TempDir(), "out")
	checked := 0
	for name, data := range all {
		for i := range data {
			changed := bytes.Clone(data)
			changed[i] ^= 1 << (i % 8)
			s := withObject(t, all, name, changed)
			r, err := verify(s, nil)
			if err == nil || fault.KindOf(err) != fault.Refused {
				t.Fatalf("byte %d of %s changed: verify says %v", i, name, err)
			}
			if r != nil && (len(r.Failures) == 0 || !slices.ContainsFunc(r.Failures, func(f prep.Failure) bool { return f.Object == name })) {
				t.Fatalf("byte %d of %s changed: failures %+v", i, name, r.Failures)
			}
			if strings.HasPrefix(name, format.DataPrefix) {
				mustNameFiles(t, r.Failures)
			}
			if _, err := decrypt(s, target, &sealed.Reference); err == nil && neededBy(name, sealed.Epoch) {
				t.Fatalf("byte %d of %s changed: it was decrypted", i, name)
			} else if err == nil {
				sameTrees(t, source, target)
				os.RemoveAll(target)
			}
			mustNotExist(t, target)
			checked++
		}
	}
	if checked < 1000 {
		t.Fatalf("changed %d bytes only", checked)
	}
	if left, _ := os.ReadDir(filepath.Dir(target)); len(left) != 0 {
		t.Errorf("failed runs left %v", left)
	}
}

// neededBy reports whether an epoch's contents depend on an object: on all but
// the manifests of others.
func neededBy(name string, epoch uint64) bool {
	return !strings.HasPrefix(name, format.ManifestPrefix) || name == format.ManifestName(epoch)
}

func mustNameFiles(t *testing.T, failures []prep.Failure) {
	t.Helper()
	for _, f := range failures {
		names := strings.Join(f.Files, " ")
		if names != "a d/b" && names != "d/c" {
			t.Fatalf("%s names %q; an object holds a and d/b, the other d/c", f.Object, names)
		}
	}
}

func withObject(t *testing.T, all map[string][]byte, name string, data []byte) *storetest.Memory {
	changed := maps.Clone(all)
	changed[name] = data
	return storeOf(t, changed)
}

func TestEveryOtherLengthIsFound(t *testing.T) {
	all, _, _ := smallVolume(t)
	for name, data := range all {
		longer := append(bytes.Clone(data), 0)
		lengths := []int{0, 1, 39, 40, 56, 131, 132, len(data) / 2, len(data) - 17, len(data) - 1, len(data) + 1}
		for _, n := range lengths {
			if n < 0 || n == len(data) || n > len(longer) {
				continue
			}
			if _, err := verify(withObject(t, all, name, longer[:n]), nil); fault.KindOf(err) != fault.Refused {
				t.Errorf("%s with %d of %d bytes: verify says %v", name, n, len(data), err)
			}
		}
	}
}

func TestMissingAndExchangedObjects(t *testing.T) {
	all, sealed, _ := smallVolume(t)
	data := dataNames(all)
	target := filepath.Join(t.TempDir(), "out")
	for _, name := range data {
		missing := maps.Clone(all)
		delete(missing, name)
		s := storeOf(t, missing)
		r, err := verify(s, nil)
		if fault.KindOf(err) != fault.Refused || r == nil || len(r.Failures) != 1 || r.Failures[0].Reason != "it is not in the store" {
			t.Errorf("%s is missing: verify says %v, %+v", name, err, r)
		}
		if _, err := decrypt(s, target, nil); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is missing: decrypt says %v", name, err)
		}
		mustNotExist(t, target)
	}
	swapped := maps.Clone(all)
	swapped[data[0]], swapped[data[1]] = all[data[1]], all[data[0]]
	r, err := verify(storeOf(t, swapped), nil)
	if fault.KindOf(err) != fault.Refused || r == nil || len(r.Failures) < 2 {
		t.Errorf("two objects exchanged: verify says %v, %+v", err, r)
	}
	noManifest := maps.Clone(all)
	delete(noManifest, format.ManifestName(2))
	if _, err := verify(storeOf(t, noManifest), &sealed.Reference); !errors.Is(err, format.ErrReference) {
		t.Errorf("the newest manifest is missing: verify says %v", err)
	}
	r, err = verify(storeOf(t, noManifest), nil)
	if err != nil || !strings.Contains(strings.Join(r.Notes, "\n"), "1 data objects") {
		t.Errorf("an object that no manifest knows: %v, notes %q", err, r.Notes)
	}
	delete(noManifest, format.ManifestName(1))
	for what, err := range map[string]error{"verify": second(verify(storeOf(t, noManifest), nil)), "decrypt": second(decrypt(storeOf(t, noManifest), target, nil)),
		"inspect": second(prep.Inspect(context.Background(), storeOf(t, noManifest)))} {
		if fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "there is no volume at memory") {
			t.Errorf("no manifest at all: %s says %v", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestManifestsOfOthers(t *testing.T) {
	all, sealed, source := smallVolume(t)
	other := new(storetest.Memory)
	encrypt(t, other, source)
	foreign := objects(t, other)[format.ManifestName(1)]
	first, second := format.ManifestName(1), format.ManifestName(2)
	for _, tc := range []struct {
		what     string
		manifest map[string][]byte
		ref      *format.Reference
		want     string
	}{
		{"another volume's", map[string][]byte{first: foreign}, nil, "it is of volume " + sealed.Volume},
		{"another volume's, under a reference", map[string][]byte{second: foreign}, &sealed.Reference, "not the one the reference names"},
		{"the old one as the new", map[string][]byte{second: all[first]}, nil, "holds the manifest of epoch 1"},
		{"the old one as the new, under a reference", map[string][]byte{second: all[first]}, &sealed.Reference, "holds the manifest of epoch 1"},
		{"not a manifest", map[string][]byte{second: noise(300, 3)}, nil, "preamble"},
	} {
		changed := maps.Clone(all)
		maps.Copy(changed, tc.manifest)
		r, err := verify(storeOf(t, changed), tc.ref)
		text := fmt.Sprint(err)
		if r != nil {
			text += fmt.Sprintf("%+v", r.Failures)
		}
		if fault.KindOf(err) != fault.Refused || !strings.Contains(text, tc.want) && !strings.Contains(text, "not the one the reference names") {
			t.Errorf("%s: verify says %v (%s); want %q", tc.what, err, text, tc.want)
		}
	}
}

func TestWrongKey(t *testing.T) {
	all, _, source := smallVolume(t)
	s := storeOf(t, all)
	wrong := format.NewRootSecret()
	_, verr := prep.Verify(context.Background(), s, prep.VerifyOptions{Key: wrong})
	_, derr := prep.Decrypt(context.Background(), s, filepath.Join(t.TempDir(), "out"), prep.DecryptOptions{Key: wrong})
	_, eerr := prep.Encrypt(context.Background(), s, prep.EncryptOptions{Root: wrong, Source: source})
	for what, err := range map[string]error{"verify": verr, "decrypt": derr, "encrypt": eerr} {
		if !errors.Is(err, format.ErrWrongKey) || !strings.Contains(strings.Join(fault.Hints(err), " "), "key file") {
			t.Errorf("%s: %v, hints %q", what, err, fault.Hints(err))
		}
	}
	if !maps.EqualFunc(all, objects(t, s), bytes.Equal) {
		t.Error("a wrong key changed the volume")
	}
}

func TestUpdate(t *testing.T) {
	source := filepath.Join(t.TempDir(), "in")
	for i := range 20 {
		write(t, fmt.Sprintf("%s/d%d/f%d", source, i%3, i), noise(5000, uint64(i)))
	}
	write(t, source+"/large", noise(3<<20, 99))
	s := new(storetest.Memory)
	first := encrypt(t, s, source)
	before := objects(t, s)

	write(t, source+"/d0/f0", noise(7000, 100)) // another size
	if err := os.Remove(source + "/d1/f1"); err != nil {
		t.Fatal(err)
	}
	write(t, source+"/d1/new", noise(10, 101))
	if err := os.Rename(source+"/d2/f2", source+"/d2/renamed"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(source+"/large", 0o600); err != nil { // of attributes only
		t.Fatal(err)
	}
	second := encrypt(t, s, source)
	if second.Epoch != 2 || second.Volume != first.Volume || second.NewObjects != 1 || second.ReusedFiles != 18 {
		t.Errorf("%+v: want epoch 2 of the same volume, 18 files used again, the rest in one object", second)
	}
	after := objects(t, s)
	for name, data := range before {
		if !bytes.Equal(after[name], data) {
			t.Errorf("%s changed", name)
		}
	}
	mustRoundTrip(t, s, source, second.Reference, false)
	if _, err := verify(s, &first.Reference); err != nil {
		t.Errorf("the first epoch does not verify any more: %v", err)
	}

	// The old manifest put back: under the reference it is refused.
	delete(after, format.ManifestName(2))
	target := filepath.Join(t.TempDir(), "out")
	rolledBack := storeOf(t, after)
	if _, err := decrypt(rolledBack, target, &second.Reference); !errors.Is(err, format.ErrReference) {
		t.Errorf("rolled back: decrypt says %v", err)
	}
	_, err := prep.Encrypt(context.Background(), rolledBack, prep.EncryptOptions{Source: source, Root: testRoot(), Previous: &second.Reference})
	if !errors.Is(err, format.ErrReference) {
		t.Errorf("rolled back: encrypt upon the reference says %v", err)
	}
	mustNotExist(t, target)
}

// TestANewFileIsNotItsNeighbour adds a file of the size and time of the one
// whose name comes next.
func TestANewFileIsNotItsNeighbour(t *testing.T) {
	source := t.TempDir()
	write(t, source+"/b", noise(1000, 1))
	s := new(storetest.Memory)
	encrypt(t, s, source)
	write(t, source+"/a", noise(1000, 2))
	sealed := encrypt(t, s, source)
	if sealed.ReusedFiles != 1 {
		t.Errorf("%d files were used again, want the old one", sealed.ReusedFiles)
	}
	mustRoundTrip(t, s, source, sealed.Reference, false)
}

// TestRecentChangesAreSealedAgain keeps a file that may have been changed
// within the clock tick in which it was sealed from passing as unchanged.
func TestRecentChangesAreSealedAgain(t *testing.T) {
	source := t.TempDir()
	if err := os.WriteFile(source+"/fresh", []byte("now"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := new(storetest.Memory)
	encrypt(t, s, source)
	if again := encrypt(t, s, source); again.ReusedFiles != 0 {
		t.Errorf("a file as new as the epoch was taken for unchanged: %+v", again)
	}
}

func TestUnchangedEpochsShareOneKey(t *testing.T) {
	source := t.TempDir()
	s := new(storetest.Memory)
	for i := range 5 {
		write(t, fmt.Sprintf("%s/f%d", source, i), noise(100, uint64(i)))
		encrypt(t, s, source)
	}
	sealed := objects(t, s)[format.ManifestName(5)]
	p, _, err := format.ParsePreamble(sealed)
	if err != nil {
		t.Fatal(err)
	}
	m, err := format.OpenManifest(sealed, testRoot().DeriveDEK(p.Volume, 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	if m.Keys() != 1 || m.Objects() != 5 {
		t.Errorf("the fifth epoch has %d keys and %d objects, want 1 and 5", m.Keys(), m.Objects())
	}
}

// TestChangedWhileRead changes a file after the walk has seen it and before it
// is read: small files are read when the pack is full or the walk has ended,
// and the hook strikes when the first large one is put.
func TestChangedWhileRead(t *testing.T) {
	for what, change := range map[string]func(path string) error{
		"grows":    func(p string) error { return os.WriteFile(p, []byte("longer than before"), 0o644) },
		"shrinks":  func(p string) error { return os.Truncate(p, 2) },
		"vanishes": os.Remove,
		"same size and time": func(p string) error {
			return errors.Join(os.WriteFile(p, []byte("OTHER"), 0o644), os.Chtimes(p, old, old))
		},
		"replaced": func(p string) error {
			return errors.Join(os.WriteFile(p+"2", []byte("other"), 0o644), os.Chtimes(p+"2", old, old), os.Rename(p+"2", p))
		},
		"a symlink": func(p string) error { return errors.Join(os.Remove(p), os.Symlink("b", p)) },
	} {
		t.Run(what, func(t *testing.T) {
			source := t.TempDir()
			write(t, source+"/a\x1b", []byte("first"))
			// More large files than can be read and sealed while no put ends.
			for i := range 16 {
				write(t, fmt.Sprintf("%s/b%d", source, i), noise(1<<20, uint64(i)))
			}
			memory := new(storetest.Memory)
			changed := make(chan struct{})
			s := &storetest.Faulty{Store: memory, Faults: []storetest.Fault{
				{Op: storetest.Put, Nth: 1, Hook: func(storetest.Call) {
					defer close(changed)
					if err := change(source + "/a\x1b"); err != nil {
						t.Error(err)
					}
				}},
				{Op: storetest.Put, From: 2, Wait: changed},
			}}
			_, err := prep.Encrypt(context.Background(), s, prep.EncryptOptions{Source: source, Root: testRoot()})
			if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), source+"/a\x1b changed while it was read") {
				t.Errorf("%v, want a conflict that names the file", err)
			}
			mustGoOn(t, memory, source)
		})
	}
}

func TestTwoWriters(t *testing.T) {
	source := t.TempDir()
	write(t, source+"/a", []byte("x"))
	memory := new(storetest.Memory)
	var theirs *prep.Sealed
	s := &storetest.Faulty{Store: memory, Faults: []storetest.Fault{{Op: storetest.Put, Name: format.ManifestPrefix, Hook: func(storetest.Call) {
		theirs = encrypt(t, memory, source)
	}}}}
	_, err := prep.Encrypt(context.Background(), s, prep.EncryptOptions{Source: source, Root: testRoot()})
	if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "another writer made epoch 1") {
		t.Errorf("%v, want a conflict", err)
	}
	r, err := verify(memory, &theirs.Reference)
	if err != nil || len(r.Notes) != 0 {
		t.Errorf("the winner's volume: %v, notes %q", err, r.Notes)
	}
}

func TestStoreFailuresPublishNothing(t *testing.T) {
	source := t.TempDir()
	for i := range 4 {
		write(t, fmt.Sprintf("%s/%d", source, i), noise(1<<20, uint64(i)))
	}
	for nth := 1; nth <= 9; nth++ { // a record and an object for each file, and the manifest
		memory := new(storetest.Memory)
		s := &storetest.Faulty{Store: memory, Faults: []storetest.Fault{{Op: storetest.Put, Nth: nth, Err: storetest.Away}}}
		if _, err := prep.Encrypt(context.Background(), s, prep.EncryptOptions{Source: source, Root: testRoot()}); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("put %d fails: %v", nth, err)
		}
		mustGoOn(t, memory, source)
	}
}

// mustGoOn checks that a run which failed has published nothing, and that the
// next one takes over every object that is there and leaves no record.
func mustGoOn(t *testing.T, s prep.Store, source string) {
	t.Helper()
	left := objects(t, s)
	for name := range left {
		if strings.HasPrefix(name, format.ManifestPrefix) {
			t.Errorf("the run published %s", name)
		}
	}
	sealed := encrypt(t, s, source)
	if sealed.Resumed != len(dataNames(left)) {
		t.Errorf("%d objects were taken over of %d", sealed.Resumed, len(dataNames(left)))
	}
	mustRoundTrip(t, s, source, sealed.Reference, false)
	mustHaveNothingOver(t, s)
}

// mustHaveNothingOver checks that every object is an epoch's.
func mustHaveNothingOver(t *testing.T, s prep.Store) {
	t.Helper()
	for name := range objects(t, s) {
		if strings.HasPrefix(name, format.PendingPrefix) {
			t.Errorf("%s is left", name)
		}
	}
	if r, err := verify(s, nil); err != nil || strings.Contains(strings.Join(r.Notes, "\n"), "data objects") {
		t.Errorf("%v, %q", err, r.Notes)
	}
}

// TestUnavailableIsNotDamage tells a store that does not answer from one that
// answers with other bytes.
func TestUnavailableIsNotDamage(t *testing.T) {
	all, _, _ := smallVolume(t)
	for nth := 1; nth <= 4; nth++ {
		s := &storetest.Faulty{Store: storeOf(t, all), Faults: []storetest.Fault{{Op: storetest.Get, Nth: nth, Err: storetest.Away}}}
		if r, err := verify(s, nil); fault.KindOf(err) != fault.Unavailable || r != nil {
			t.Errorf("get %d fails: verify says %v, %+v", nth, err, r)
		}
		target := filepath.Join(t.TempDir(), "out")
		s.Reset(storetest.Fault{Op: storetest.Get, Nth: nth, Err: storetest.Away})
		if _, err := decrypt(s, target, nil); nth <= 3 && fault.KindOf(err) != fault.Unavailable {
			t.Errorf("get %d fails: decrypt says %v", nth, err)
		}
	}
}

func TestEncryptRefusesAPlaceInUse(t *testing.T) {
	source := t.TempDir()
	write(t, source+"/a", []byte("x"))
	for name, want := range map[string]string{
		"letters/home.txt":      "is not a volume and not empty",
		format.RecordName(1, 1): "is not a volume and not empty",
	} {
		s := storeOf(t, map[string][]byte{name: []byte("x")})
		_, err := prep.Encrypt(context.Background(), s, prep.EncryptOptions{Source: source, Root: testRoot()})
		if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is there: %v", name, err)
		}
	}
	s := new(storetest.Memory)
	encrypt(t, s, source)
	if err := s.Put(context.Background(), format.RecordName(2, 1), []byte("x")); err != nil {
		t.Fatal(err)
	}
	_, err := prep.Encrypt(context.Background(), s, prep.EncryptOptions{Source: source, Root: testRoot()})
	if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "unfinished output") {
		t.Errorf("an output is being written: %v", err)
	}
}

func TestCheckApart(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"src/deep", "src-2"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("src", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		source, volume string
		ok             bool
	}{
		{"src", "src", false}, {"src", "src/new/volume", false}, {"src/deep", "src", false},
		{"link", "src/volume", false}, {"src", "link/volume", false}, {"src", "src/../src/x", false},
		{"src", "src-2", true}, {"src", "src-3/x", true}, {"src/deep", "src/volume", true},
	} {
		err := prep.CheckApart(filepath.Join(dir, tc.source), dir+"/"+tc.volume)
		if (err == nil) != tc.ok || !tc.ok && fault.KindOf(err) != fault.Usage {
			t.Errorf("CheckApart(%s, %s) = %v", tc.source, tc.volume, err)
		}
	}
}

func TestDecryptTargets(t *testing.T) {
	all, sealed, source := smallVolume(t)
	s := storeOf(t, all)
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := decrypt(s, empty, &sealed.Reference); err != nil {
		t.Fatal(err)
	}
	sameTrees(t, source, empty)
	write(t, dir+"/file", []byte("mine"))
	if err := os.Symlink("nowhere", dir+"/dangling"); err != nil {
		t.Fatal(err)
	}
	for target, kind := range map[string]fault.Kind{
		empty: fault.Conflict, dir + "/file": fault.Conflict, dir + "/dangling": fault.Conflict, dir + "/no/where": fault.NotFound,
	} {
		if _, err := decrypt(s, target, nil); fault.KindOf(err) != kind {
			t.Errorf("to %s: %v, want %v", target, err, kind)
		}
	}
	sameTrees(t, source, empty)

	// A failure in an empty folder that was there leaves it there, and empty.
	damaged := maps.Clone(all)
	delete(damaged, dataNames(all)[0])
	if err := os.Mkdir(dir+"/there", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := decrypt(storeOf(t, damaged), dir+"/there", nil); fault.KindOf(err) != fault.Refused {
		t.Errorf("a damaged volume: %v", err)
	}
	if left, err := os.ReadDir(dir + "/there"); err != nil || len(left) != 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

// TestHostileManifest extracts trees that a party could seal to reach outside
// the target, or over it.
func TestHostileManifest(t *testing.T) {
	outside := t.TempDir()
	root, volume := testRoot(), format.NewVolumeID()
	b := new(format.Builder)
	b.AddNode(1, format.Node{Attr: format.Attr{Mode: format.ModeDir | 0o755}})
	b.AddNode(2, format.Node{Attr: format.Attr{Mode: format.ModeSymlink | 0o777}, Target: []byte(outside)})
	b.AddNode(3, format.Node{Attr: format.Attr{Mode: format.ModeDir | 0o000}})
	b.AddNode(4, format.Node{Attr: format.Attr{Mode: format.ModeFile | 0o6777}})
	b.AddNode(5, format.Node{Attr: format.Attr{Mode: format.ModeSymlink | 0o777}, Target: []byte("../../../../etc/passwd")})
	b.Link(1, []byte("a"), 2)
	b.Link(1, []byte("b"), 3)
	b.Link(3, []byte("a"), 4)
	b.Link(3, []byte("passwd"), 5)
	b.Link(1, []byte("z"), 2) // the symlink again, by a hard link
	plain, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	dek := root.DeriveDEK(volume, 1)
	sealed, _ := format.SealManifest(dek, format.Preamble{Suite: format.Suite16K, KeyVersion: 1, Volume: volume, Epoch: 1}, plain)
	target := filepath.Join(t.TempDir(), "out")
	if _, err := decrypt(storeOf(t, map[string][]byte{format.ManifestName(1): sealed}), target, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(target+"/b", 0o700) })
	for _, name := range []string{"a", "z"} {
		if to, err := os.Readlink(target + "/" + name); err != nil || to != outside {
			t.Errorf("%s is a symlink to %q, %v", name, to, err)
		}
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
		t.Errorf("outside the target is now %v, %v", left, err)
	}
	info, err := os.Lstat(target + "/b")
	if err != nil || info.Mode().Perm() != 0 {
		t.Errorf("b: %v, %v", info, err)
	}
}

func TestUploadIsResumableAndIdempotent(t *testing.T) {
	source := t.TempDir()
	for i := range 6 {
		write(t, fmt.Sprintf("%s/%d", source, i), noise(1<<20, uint64(i)))
	}
	from, to := new(storetest.Memory), new(storetest.Memory)
	encrypt(t, from, source)
	write(t, source+"/more", []byte("more"))
	sealed := encrypt(t, from, source)
	want := objects(t, from)
	ctx := context.Background()
	for nth := 1; nth < len(want); nth++ {
		s := &storetest.Faulty{Store: to, Faults: []storetest.Fault{{Op: storetest.Put, Nth: 2, Err: storetest.Away}}}
		_, err := prep.Upload(ctx, from, s, prep.UploadOptions{})
		if err == nil {
			break
		}
		if fault.KindOf(err) != fault.Unavailable {
			t.Fatal(err)
		}
		mustHaveWholeEpochs(t, to)
	}
	r, err := prep.Upload(ctx, from, to, prep.UploadOptions{})
	if err != nil || r.Present+r.Objects != len(want) || r.Epochs != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err = prep.Upload(ctx, from, to, prep.UploadOptions{}); err != nil || r.Objects != 0 || r.Present != len(want) {
		t.Errorf("uploading again: %+v, %v", r, err)
	}
	if !maps.EqualFunc(want, objects(t, to), bytes.Equal) {
		t.Error("the copy differs")
	}
	mustRoundTrip(t, to, source, sealed.Reference, false)
}

// mustHaveWholeEpochs checks that whatever manifests are there have all their
// objects.
func mustHaveWholeEpochs(t *testing.T, s prep.Store) {
	t.Helper()
	if _, err := verify(s, nil); err != nil && fault.KindOf(err) != fault.NotFound {
		t.Errorf("half an epoch shows: %v", err)
	}
}

func TestUploadRefuses(t *testing.T) {
	all, _, source := smallVolume(t)
	ctx := context.Background()
	other := new(storetest.Memory)
	encrypt(t, other, source)
	upload := func(from, to map[string][]byte) error {
		_, err := prep.Upload(ctx, storeOf(t, from), storeOf(t, to), prep.UploadOptions{})
		return err
	}
	changed := func(name string, data []byte) map[string][]byte {
		m := maps.Clone(all)
		m[name] = data
		return m
	}
	data := dataNames(all)[0]
	longer := append(bytes.Clone(all[data]), 0)
	later := map[string][]byte{format.ManifestName(7): all[format.ManifestName(1)]}
	for _, tc := range []struct {
		what     string
		from, to map[string][]byte
		kind     fault.Kind
		text     string
	}{
		{"nothing to upload", nil, nil, fault.NotFound, "there is no volume"},
		{"another volume there", all, objects(t, other), fault.Conflict, "holds another volume"},
		{"another volume there, of other epochs", all, later, fault.Conflict, "holds another volume"},
		{"an object of another size", all, map[string][]byte{data: longer}, fault.Conflict, "bytes at memory"},
		{"an unfinished output", changed(format.RecordName(3, 1), []byte("x")), nil, fault.Conflict, "unfinished output"},
		{"not a manifest", changed(format.ManifestName(2), []byte("x")), nil, fault.Refused, "preamble"},
	} {
		if err := upload(tc.from, tc.to); fault.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v, want %v with %q", tc.what, err, tc.kind, tc.text)
		}
	}
	if err := upload(changed(format.RecordName(2, 9), []byte("a fence")), nil); err != nil {
		t.Errorf("the fence of an epoch that is complete: %v", err)
	}
}

func TestInspect(t *testing.T) {
	all, sealed, _ := smallVolume(t)
	all["signature/0000000000000002"] = []byte("x")
	r, err := prep.Inspect(context.Background(), storeOf(t, all))
	if err != nil {
		t.Fatal(err)
	}
	if r.Volume != sealed.Volume || len(r.Epochs) != 2 || r.DataObjects != 2 || r.Signatures != 1 || r.Others != 0 {
		t.Errorf("%+v", r)
	}
	newest := r.Epochs[1]
	if newest.Reference != sealed.Reference || newest.Follows == nil || !*newest.Follows || newest.Bytes != sealed.ManifestBytes {
		t.Errorf("newest epoch %+v, want reference %v", newest, sealed.Reference)
	}
	bad := maps.Clone(all)
	bad[format.ManifestName(1)] = all[format.ManifestName(2)]
	if _, err := prep.Inspect(context.Background(), storeOf(t, bad)); fault.KindOf(err) != fault.Refused {
		t.Errorf("a manifest in the place of another: %v", err)
	}
}

func TestPadding(t *testing.T) {
	source := t.TempDir()
	write(t, source+"/a", noise(12345, 1))
	padded, bare := new(storetest.Memory), new(storetest.Memory)
	encrypt(t, padded, source)
	_, err := prep.Encrypt(context.Background(), bare, prep.EncryptOptions{Source: source, Root: testRoot(), NoPadding: true})
	if err != nil {
		t.Fatal(err)
	}
	length := func(s prep.Store) int64 {
		all := objects(t, s)
		return int64(len(all[dataNames(all)[0]]))
	}
	want := format.Suite16K.SealedLen(12345)
	if got := length(bare); got != want {
		t.Errorf("not padded: %d bytes, want %d", got, want)
	}
	if got, want := length(padded), format.Suite16K.SealedLen(format.Suite16K.PaddedPlainLen(12345)); got != want || got <= length(bare) {
		t.Errorf("padded: %d bytes, want %d", got, want)
	}
}

// TestPaddingMustBeZeros seals an object as no writer of ours does.
func TestPaddingMustBeZeros(t *testing.T) {
	root, volume := testRoot(), format.NewVolumeID()
	key := format.NewObjectKey()
	id := format.Identity{Suite: format.Suite16K, Kind: format.KindData, Volume: volume, Object: format.NewObjectID()}
	sealed, header := format.SealData(nil, key, id, []byte("file and something"), false)
	b := new(format.Builder)
	b.AddKey(format.Key{Key: key, Origin: volume, Suite: format.Suite16K})
	b.AddObject(format.Object{ID: id.Object, Header: header, SealedLen: int64(len(sealed))})
	b.AddNode(1, format.Node{Attr: format.Attr{Mode: format.ModeDir | 0o755}})
	b.AddNode(2, format.Node{Attr: format.Attr{Mode: format.ModeFile | 0o644, Size: 4}, Extents: []format.Extent{{Length: 4}}})
	b.Link(1, []byte("f"), 2)
	b.SetProvenance([]byte(`{"writer":"cloister prep encrypt"}`))
	plain, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	dek := root.DeriveDEK(volume, 1)
	manifest, _ := format.SealManifest(dek, format.Preamble{Suite: format.Suite16K, KeyVersion: 1, Volume: volume, Epoch: 1}, plain)
	r, err := verify(storeOf(t, map[string][]byte{format.ManifestName(1): manifest, format.ObjectName(id.Object): sealed}), nil)
	if fault.KindOf(err) != fault.Refused || len(r.Failures) != 1 || !strings.Contains(r.Failures[0].Reason, "padding from byte 4") {
		t.Errorf("%v, %+v", err, r)
	}
}

func TestCancelled(t *testing.T) {
	source := t.TempDir()
	for i := range 8 {
		write(t, fmt.Sprintf("%s/%d", source, i), noise(1<<20, uint64(i)))
	}
	whole := new(storetest.Memory)
	encrypt(t, whole, source)
	for nth := 1; nth <= 9; nth++ {
		ctx, cancel := context.WithCancel(context.Background())
		memory := new(storetest.Memory)
		hook := []storetest.Fault{{Op: storetest.Put, Nth: nth, Hook: func(storetest.Call) { cancel() }}}
		s := &storetest.Faulty{Store: memory, Faults: hook}
		if _, err := prep.Encrypt(ctx, s, prep.EncryptOptions{Source: source, Root: testRoot()}); nth < 9 && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at put %d: encrypt says %v", nth, err)
		}
		ctx, cancel = context.WithCancel(context.Background())
		get := &storetest.Faulty{Store: whole, Faults: []storetest.Fault{{Op: storetest.Get, Nth: nth, Hook: func(storetest.Call) { cancel() }}}}
		target := filepath.Join(t.TempDir(), "out")
		if _, err := prep.Decrypt(ctx, get, target, prep.DecryptOptions{Key: testRoot()}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at get %d: decrypt says %v", nth, err)
		}
		mustNotExist(t, target)
		cancel()
	}
}
