//go:build linux

package mount_test

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// testdata/volumes holds a sealed volume of every kind and released version of
// the format. They are kept for ever and never made again: what an owner has
// sealed must stay readable. A new one is added with
//
//	go test ./fs/mount -run TestKeptVolumes -make-volumes
//
// as root, which leaves those that are there alone.

var makeVolumes = flag.Bool("make-volumes", false, "add the volumes that testdata/volumes has not got")

const keptVolumes = "../../testdata/volumes"

// A kept volume is a folder:
//
//	KEYFILE      a root secret that everybody knows
//	volume       the objects
//	N.reference  of a state of the volume, or nothing but a new line: the newest
//	N.tree       what it holds: listTree of the folder it was made from
var kept = map[string]func(t *testing.T, k *keptVolume){
	"v1-every-type":         makeEveryType,
	"v1-two-epochs":         makeTwoEpochs,
	"v1-unfinished-journal": makeUnfinished,
}

const testKey = "# TEST KEY. It is published with the source, everybody has it, and it protects nothing.\n"

// keptVolume is a site whose volume and key are a copy of a kept volume's.
type keptVolume struct {
	*site
	home string
}

func TestKeptVolumes(t *testing.T) {
	for name, make := range kept {
		if *makeVolumes {
			addVolume(t, name, make)
		}
	}
	found, _ := filepath.Glob(keptVolumes + "/*/KEYFILE")
	if len(found) < len(kept) {
		t.Fatalf("%d volumes are kept, of %d", len(found), len(kept))
	}
	for _, key := range found {
		home := filepath.Dir(key)
		t.Run(filepath.Base(home), func(t *testing.T) { readKept(t, home) })
	}
}

func readKept(t *testing.T, home string) {
	states, _ := filepath.Glob(home + "/*.tree")
	if len(states) == 0 {
		t.Fatal("nothing is expected of it")
	}
	key, err := os.ReadFile(home + "/KEYFILE")
	if err != nil || !bytes.HasPrefix(key, []byte(testKey)) {
		t.Errorf("KEYFILE does not say that it is for tests (%v)", err)
	}
	for _, state := range states {
		want := readLines(t, state)
		reference := readLines(t, strings.TrimSuffix(state, ".tree")+".reference")[0]
		k := &keptVolume{newOutputSite(t, uint32(os.Geteuid())), home}
		k.copyFrom(t)
		if reference == "" {
			k.recover(t, want)
			continue
		}
		k.verify(t, reference)
		k.decrypt(t, reference, want)
		d := k.mount(t, "--reference", reference)
		wantLines(t, "mounted", listTree(t, k.dir), want)
		d.stop(k.site)
	}
}

func (k *keptVolume) copyFrom(t *testing.T) {
	t.Helper()
	if err := os.CopyFS(k.volume, os.DirFS(k.home+"/volume")); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(k.home + "/KEYFILE")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(k.key, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (k *keptVolume) cloister(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(shared+"/cloister", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("cloister %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (k *keptVolume) verify(t *testing.T, reference string) {
	t.Helper()
	k.cloister(t, "prep", "verify", "--key", k.key, "--reference", reference, k.volume)
}

// decrypt compares all with the folder where this user can make all, and else
// the contents of files.
func (k *keptVolume) decrypt(t *testing.T, reference string, want []string) {
	t.Helper()
	target := filepath.Dir(k.dir) + "/decrypted"
	args := []string{"prep", "decrypt", "--key", k.key, "--reference", reference, k.volume, target}
	if os.Geteuid() == 0 {
		k.cloister(t, slices.Insert(args, 2, "--special")...)
		wantLines(t, "decrypted", listTree(t, target), want)
	} else {
		k.cloister(t, args...)
	}
	wantLines(t, "decrypted", contents(listTree(t, target)), contents(want))
	if err := os.RemoveAll(target); err != nil {
		t.Fatal(err)
	}
}

var nameAndDigest = regexp.MustCompile(`^(".*") mode .*, (\d+ bytes, sha256 [0-9a-f]{64})`)

// contents leaves of a listing the names of files and what they hold.
func contents(lines []string) (short []string) {
	for _, line := range lines {
		if m := nameAndDigest.FindStringSubmatch(line); m != nil {
			short = append(short, m[1]+" "+m[2])
		}
	}
	return short
}

// recover mounts what a killed writer left for writing, and then as an input.
func (k *keptVolume) recover(t *testing.T, want []string) {
	t.Helper()
	d := k.mount(t, "--output")
	wantLines(t, "recovered", listTree(t, k.dir), want)
	d.stop(k.site)
	d = k.mount(t)
	wantLines(t, "folded", listTree(t, k.dir), want)
	d.stop(k.site)
}

func readLines(t *testing.T, file string) []string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

// ---- making them

func addVolume(t *testing.T, name string, make func(*testing.T, *keptVolume)) {
	home := filepath.Join(keptVolumes, name)
	if _, err := os.Stat(home); err == nil {
		return
	}
	if os.Geteuid() != 0 {
		t.Fatal("making volumes needs root, for devices and owners")
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		t.Fatal(err)
	}
	k := &keptVolume{newOutputSite(t, 0), home}
	make(t, k)
	if err := os.CopyFS(home+"/volume", os.DirFS(k.volume)); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(k.key)
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := bytes.Cut(key, []byte("\n"))
	if err := os.WriteFile(home+"/KEYFILE", append([]byte(testKey), line...), 0o644); err != nil {
		t.Fatal(err)
	}
}

// state writes down what a state of the volume holds.
func (k *keptVolume) state(t *testing.T, name, reference string, tree []string) {
	t.Helper()
	for file, text := range map[string]string{".reference": reference, ".tree": strings.Join(tree, "\n")} {
		if err := os.WriteFile(filepath.Join(k.home, name+file), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// encrypt seals a folder as the next epoch and writes that state down.
func (k *keptVolume) encrypt(t *testing.T, name, folder string) {
	t.Helper()
	file := filepath.Dir(k.dir) + "/reference"
	k.cloister(t, "prep", "encrypt", "--key", k.key, "--reference-file", file, folder, k.volume)
	k.state(t, name, readLines(t, file)[0], listTree(t, folder))
}

func makeEveryType(t *testing.T, k *keptVolume) {
	folder := t.TempDir()
	everyType(t, folder)
	k.encrypt(t, "1", folder)
}

func makeTwoEpochs(t *testing.T, k *keptVolume) {
	folder := t.TempDir()
	for name, n := range map[string]int{"kept": 40_000, "changed": 1000, "removed": 100} {
		if err := os.WriteFile(filepath.Join(folder, name), content(n, uint64(n)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, folder)
	k.encrypt(t, "1", folder)
	err := os.WriteFile(filepath.Join(folder, "changed"), content(2000, 5), 0o600)
	if err == nil {
		err = os.Remove(filepath.Join(folder, "removed"))
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "added"), content(500, 6), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	k.encrypt(t, "2", folder)
}

// makeUnfinished kills a writer that builds on a manifest, after an fsync of
// all it has written.
func makeUnfinished(t *testing.T, k *keptVolume) {
	d := k.mount(t, "--output")
	k.sh(t, "echo base >base; echo old >replaced; ln base hard; sync .")
	d.stop(k.site)
	d = k.mount(t, "--output")
	k.sh(t, `echo new >replaced.tmp; mv replaced.tmp replaced; sync replaced
		mkdir sub; head -c 20000 /dev/zero | tr '\0' x >sub/file; ln -s sub/file link; truncate -s 1M sub/sparse
		sync sub/file sub/sparse; rm hard; chmod 600 base; mkfifo fifo; sync -f .; sync . sub base`)
	tree := listTree(t, k.dir)
	d.signal(syscall.SIGKILL)
	d.wait()
	if err := syscall.Unmount(k.dir, syscall.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if records, _ := filepath.Glob(k.volume + "/journal/*"); len(records) < 3 {
		t.Fatalf("the journal has %d records only", len(records))
	}
	k.state(t, "journal", "", slices.Compact(tree))
}
