package prep_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	volumefs "cloister/fs"
	"cloister/fs/format"
	"cloister/fs/store"
	"cloister/internal/fault"
	"cloister/prep"
)

// prefix is a folder in which volumes lie side by side, to be merged.
type prefix struct {
	*testing.T
	dir   string
	union string // a folder of what all of them hold
}

func newPrefix(t *testing.T) *prefix {
	p := &prefix{t, filepath.Join(t.TempDir(), "outputs"), filepath.Join(t.TempDir(), "union")}
	p.check(os.MkdirAll(p.union, 0o755))
	p.check(os.Chtimes(p.union, old, old))
	return p
}

func (p *prefix) check(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *prefix) store(name string) *store.Store {
	p.Helper()
	s, err := store.Open(context.Background(), filepath.Join(p.dir, name), store.Options{Create: true})
	p.check(err)
	p.Cleanup(func() { s.Close() })
	return s
}

// folder makes a folder of files, whose contents are those named or noise, and
// adds it to the union.
func (p *prefix) folder(files map[string]int) string {
	p.Helper()
	dir := filepath.Join(p.TempDir(), "in")
	p.check(os.MkdirAll(dir, 0o755))
	for name, size := range files {
		write(p, filepath.Join(dir, name), noise(size, uint64(len(name)*size)))
	}
	p.addToUnion(dir)
	return dir
}

// addToUnion also gives every folder the time old: which of several is kept is
// tested elsewhere.
func (p *prefix) addToUnion(dir string) {
	p.Helper()
	if out, err := exec.Command("cp", "-a", dir+"/.", p.union).CombinedOutput(); err != nil {
		p.Fatalf("%v: %s", err, out)
	}
	for _, root := range []string{dir, p.union} {
		p.check(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				err = os.Chtimes(path, old, old)
			}
			return err
		}))
	}
}

func (p *prefix) merge(o prep.MergeOptions, places ...string) (*prep.Merged, error) {
	o.Root = testRoot()
	return prep.Merge(context.Background(), p.store(""), places, o)
}

func (p *prefix) mustMerge(o prep.MergeOptions, places ...string) *prep.Merged {
	p.Helper()
	r, err := p.merge(o, places...)
	p.check(err)
	return r
}

// refuses demands an error of a kind with these words, and that no manifest was
// put.
func (p *prefix) refuses(kind fault.Kind, words string, o prep.MergeOptions, places ...string) {
	p.Helper()
	before := p.manifests()
	_, err := p.merge(o, places...)
	if fault.KindOf(err) != kind || !strings.Contains(err.Error(), words) {
		p.Errorf("got (%v) %v, want (%v) %q", fault.KindOf(err), err, kind, words)
	}
	if after := p.manifests(); after != before {
		p.Errorf("a refused merge put a manifest: %d, before %d", after, before)
	}
}

func (p *prefix) manifests() int {
	list, _ := filepath.Glob(filepath.Join(p.dir, "manifest", "*"))
	return len(list)
}

// output writes files as an output volume, as a replica does.
func (p *prefix) output(name string, root *format.RootSecret, recipients []*format.Recipient, files map[string]int) format.Reference {
	p.Helper()
	ctx := context.Background()
	o, err := volumefs.OpenOutput(ctx, p.store(name), root.DEK, volumefs.OutputOptions{Create: true, Recipients: recipients})
	p.check(err)
	for file, size := range files {
		i, err := o.Make(format.RootInode, file, volumefs.New{Mode: format.ModeFile | 0o644})
		p.check(err)
		f, err := o.Open(i.Inode)
		p.check(err)
		_, err = f.WriteAt(ctx, noise(size, uint64(size)), 0)
		p.check(err)
		f.Release()
	}
	ref, err := o.Close(ctx)
	p.check(err)
	return ref
}

// TestMerge: what folders and outputs of several writers hold is one volume,
// which is verified, decrypted, read at random, added to and moved as any other.
func TestMerge(t *testing.T) {
	p := newPrefix(t)
	a := p.folder(map[string]int{"a": 10, "both/a": 20, "large": 3 << 20})
	p.check(os.Link(a+"/large", a+"/again"))
	p.check(os.Symlink("a", a+"/link"))
	p.addToUnion(a)
	b := p.folder(map[string]int{"b": 30, "both/b": 40, "both/deep/b": 50})
	encrypt(t, p.store("r1"), a)
	encrypt(t, p.store("replicas/r2"), b)
	r := p.mustMerge(prep.MergeOptions{}, "r1", "replicas/r2")
	if r.Epoch != 1 || r.Files != 6 || r.Others != 1 || len(r.Sources) != 2 || r.Keys != 2 {
		t.Errorf("merged %+v", r)
	}
	if own, _ := filepath.Glob(filepath.Join(p.dir, "data", "*")); len(own) != 0 {
		t.Errorf("data was moved: %v", own)
	}
	p.check(os.RemoveAll(filepath.Join(p.union, "again")))
	p.check(os.Link(p.union+"/large", p.union+"/again"))
	p.check(os.Chtimes(p.union, old, old))
	mustRoundTrip(t, p.store(""), p.union, r.Reference, false)
	p.readsAtRandom(r.Reference, "large", p.union+"/large")

	// The data of a source is the merged volume's: damage there is named here.
	moved := filepath.Join(t.TempDir(), "copy")
	to, err := store.Open(context.Background(), moved, store.Options{Create: true})
	p.check(err)
	defer to.Close()
	_, err = prep.Upload(context.Background(), p.store(""), to, prep.UploadOptions{})
	p.check(err)
	mustRoundTrip(t, to, p.union, r.Reference, false)
	damaged, _ := filepath.Glob(filepath.Join(moved, "replicas/r2/data", "*"))
	p.check(os.Chmod(damaged[0], 0o600))
	p.check(os.WriteFile(damaged[0], []byte("short"), 0o600))
	v, err := verify(to, &r.Reference)
	if fault.KindOf(err) != fault.Refused || v == nil || !strings.Contains(fmt.Sprint(v.Failures), "both/deep/b") {
		t.Errorf("damage in a source: %v, %+v", err, v)
	}
}

// readsAtRandom reads a file of a volume as a mount does.
func (p *prefix) readsAtRandom(ref format.Reference, name, like string) {
	p.Helper()
	v, err := volumefs.Open(context.Background(), p.store(""), testRoot().DEK, volumefs.Options{Reference: &ref})
	p.check(err)
	defer v.Close()
	inode, ok := v.Manifest().Lookup(format.RootInode, []byte(name))
	if !ok {
		p.Fatalf("there is no %s", name)
	}
	want, err := os.ReadFile(like)
	p.check(err)
	f := v.Open(inode)
	defer f.Close()
	for _, off := range []int{0, 1_000_003, len(want) - 5000} {
		got := make([]byte, 5000)
		if n, err := f.ReadAt(context.Background(), got, int64(off)); n != len(got) || !bytes.Equal(got, want[off:off+n]) {
			p.Errorf("at %d of %s: %d bytes, %v", off, name, n, err)
		}
	}
}

// TestMergeOutputs: outputs of two writers, one with a key of another owner who
// sealed it for us, and again when they have written more.
func TestMergeOutputs(t *testing.T) {
	p := newPrefix(t)
	mine, err := format.NewRecipientKey(0)
	p.check(err)
	p.output("r1", testRoot(), nil, map[string]int{"one": 100, "large": 2 << 20})
	p.output("r2", format.NewRootSecret(), []*format.Recipient{mine.Recipient()}, map[string]int{"two": 200})
	p.refuses(fault.Refused, "source r2: volume", prep.MergeOptions{}, "r1", "r2")
	reader, err := format.NewRecipientKey(0)
	p.check(err)
	o := prep.MergeOptions{Identity: mine, Recipients: []*format.Recipient{reader.Recipient()}}
	r := p.mustMerge(o, "r1", "r2")
	if r.Files != 3 || r.Keys != 2 {
		t.Errorf("merged %+v", r)
	}
	// The merged volume opens with one key, whatever its sources' are.
	for name, key := range map[string]prep.Key{"owner": testRoot(), "recipient": reader} {
		if _, err := prep.Verify(context.Background(), p.store(""), prep.VerifyOptions{Key: key, Reference: &r.Reference}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.output("r1", testRoot(), nil, map[string]int{"three": 300})
	again := p.mustMerge(o, "r1", "r2")
	if again.Epoch != 2 || again.Files != 4 {
		t.Errorf("merged again %+v", again)
	}
	if _, err := verify(p.store(""), &again.Reference); err != nil {
		t.Error(err)
	}
	// What was merged before is there by its reference.
	if _, err := decrypt(p.store(""), filepath.Join(t.TempDir(), "out"), &r.Reference); err != nil {
		t.Error(err)
	}
}

// TestMergedIsWrittenTo: an output mount and prep encrypt go on from a merged
// epoch, and take nothing away from its sources; what they add is not dropped
// by merging again.
func TestMergedIsWrittenTo(t *testing.T) {
	p := newPrefix(t)
	p.output("r1", testRoot(), nil, map[string]int{"one": 2 << 20})
	p.output("r2", testRoot(), nil, map[string]int{"two": 200})
	p.mustMerge(prep.MergeOptions{}, "r1", "r2")
	before := objects(t, p.store(""))
	ref := p.output("", testRoot(), nil, map[string]int{"added": 500})
	if ref.Epoch != 2 {
		t.Errorf("epoch %d", ref.Epoch)
	}
	after := objects(t, p.store(""))
	for name, data := range before {
		if !bytes.Equal(after[name], data) {
			t.Errorf("%s has gone or changed", name)
		}
	}
	target := filepath.Join(t.TempDir(), "out")
	r, err := decrypt(p.store(""), target, &ref)
	if err != nil || r.Files != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	p.refuses(fault.Conflict, "was not merged", prep.MergeOptions{}, "r1", "r2")
	sealed := encrypt(t, p.store(""), target)
	mustRoundTrip(t, p.store(""), target, sealed.Reference, false)
}

// TestMergeOfMerged: a source may have been merged itself.
func TestMergeOfMerged(t *testing.T) {
	p := newPrefix(t)
	for i, name := range []string{"region/r1", "region/r2", "other"} {
		encrypt(t, p.store(name), p.folder(map[string]int{fmt.Sprintf("dir/%d", i): 100 + i}))
	}
	if _, err := prep.Merge(context.Background(), p.store("region"), []string{"r1", "r2"}, prep.MergeOptions{Root: testRoot()}); err != nil {
		t.Fatal(err)
	}
	r := p.mustMerge(prep.MergeOptions{}, "region", "other")
	mustRoundTrip(t, p.store(""), p.union, r.Reference, false)
}

// TestMergeRefusesClashes: each is in the list, with where it is, and nothing
// is made.
func TestMergeRefusesClashes(t *testing.T) {
	p := newPrefix(t)
	a := p.folder(map[string]int{"same": 1, "d/inner": 1, "kind": 1, "mode/x": 1, "fine/a": 1})
	b := p.folder(map[string]int{"same": 1, "d/inner": 2, "mode/y": 1, "fine/b": 1, "kind2": 1})
	p.check(os.Chmod(b+"/mode", 0o700))
	p.check(os.Mkdir(b+"/kind", 0o755))
	encrypt(t, p.store("r1"), a)
	encrypt(t, p.store("r2"), b)
	for _, words := range []string{"4 names clash", "\n  same is in r1 and in r2", "\n  d/inner is in", "\n  kind is in", "\n  mode is in"} {
		p.refuses(fault.Conflict, words, prep.MergeOptions{}, "r1", "r2")
	}
	many := map[string]int{}
	for i := range 130 {
		many[fmt.Sprintf("f\x1b%03d", i)] = 1
	}
	folder := p.folder(many)
	encrypt(t, p.store("r3"), folder)
	encrypt(t, p.store("r4"), folder)
	p.refuses(fault.Conflict, "and 30 more", prep.MergeOptions{}, "r3", "r4")
	p.refuses(fault.Conflict, `f\x1b000 is in`, prep.MergeOptions{}, "r3", "r4")
}

// TestMergeRefuses: sources that are not whole, not who they should be, or not
// there.
func TestMergeRefuses(t *testing.T) {
	p := newPrefix(t)
	ctx := context.Background()
	first := p.output("r1", testRoot(), nil, map[string]int{"one": 1})
	second := p.output("r1", testRoot(), nil, map[string]int{"more": 1})
	other := p.output("r2", testRoot(), nil, map[string]int{"two": 2})
	forged := p.output("r3", format.NewRootSecret(), nil, map[string]int{"three": 3})
	p.check(os.CopyFS(filepath.Join(p.dir, "copy"), os.DirFS(filepath.Join(p.dir, "r2"))))

	p.refuses(fault.NotFound, "source nowhere: there is no volume", prep.MergeOptions{}, "r1", "nowhere")
	p.refuses(fault.Refused, "source r3", prep.MergeOptions{}, "r1", "r3")
	p.refuses(fault.Conflict, "are the same volume", prep.MergeOptions{}, "r1", "r2", "copy")
	p.refuses(fault.Refused, "none of the sources", prep.MergeOptions{References: []format.Reference{other}}, "r1")
	p.refuses(fault.Usage, "two references", prep.MergeOptions{References: []format.Reference{first, second}}, "r1")
	changed := second
	changed.Manifest[0] ^= 1
	p.refuses(fault.Refused, "not the one the reference names", prep.MergeOptions{References: []format.Reference{changed}}, "r1", "r2")
	_, err := p.merge(prep.MergeOptions{Identity: mustRecipient(p)}, "r1", "r3")
	if !errors.Is(err, format.ErrNotRecipient) {
		t.Errorf("a volume of %s that nobody here can open: %v", forged.Volume, err)
	}

	// A writer is at it, or was killed.
	o, err := volumefs.OpenOutput(ctx, p.store("r2"), testRoot().DEK, volumefs.OutputOptions{})
	p.check(err)
	p.refuses(fault.Conflict, "unfinished output", prep.MergeOptions{}, "r1", "r2")
	_, err = o.Close(ctx)
	p.check(err)

	// A store that shows an older state than the reference's.
	p.check(os.Remove(filepath.Join(p.dir, "r1", format.ManifestName(2))))
	p.refuses(fault.Refused, "it has no epoch 2", prep.MergeOptions{References: []format.Reference{second}}, "r1", "r2")
	// Bytes of a source's manifest.
	name := filepath.Join(p.dir, "r1", format.ManifestName(1))
	good, err := os.ReadFile(name)
	p.check(err)
	p.check(os.Chmod(name, 0o600))
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		p.check(os.WriteFile(name, bad, 0o600))
		if _, err := p.merge(prep.MergeOptions{}, "r1", "r2"); err == nil || fault.KindOf(err) != fault.Refused {
			t.Fatalf("byte %d of a source's manifest changed: %v", i, err)
		}
	}
	p.check(os.WriteFile(name, good, 0o600))
	// Data of what is not a volume is in the way.
	write(t, filepath.Join(p.dir, format.ObjectName(format.NewObjectID())), []byte("x"))
	p.refuses(fault.Conflict, "is not a volume and holds data/", prep.MergeOptions{}, "r1", "r2")
}

func mustRecipient(p *prefix) *format.RecipientKey {
	k, err := format.NewRecipientKey(0)
	p.check(err)
	return k
}
