package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cloister/fs/format"
	"cloister/internal/cli"
)

// disk is an output's store that can be made to fail: for root a file system of
// its own that is filled up, and for others one that may not be written to.
type disk struct {
	*site
	dir string
}

func newDisk(r *site) disk {
	d := disk{r, r.Path("store", "output")}
	must(r.t, os.Mkdir(d.dir, 0o700))
	if os.Getuid() == 0 {
		must(r.t, syscall.Mount("tmpfs", d.dir, "tmpfs", 0, "size=4m,mode=0700"))
		r.t.Cleanup(func() { _ = syscall.Unmount(d.dir, syscall.MNT_DETACH) })
	}
	return d
}

func (d disk) fail() {
	if os.Getuid() != 0 {
		d.chmod(0o500)
		return
	}
	f, err := os.Create(filepath.Join(d.dir, "filler"))
	must(d.t, err)
	defer f.Close()
	for _, piece := range []int{1 << 20, 1 << 12, 1} { // the last byte too
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, piece))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			d.t.Fatalf("filling the disk: %v", err)
		}
	}
}

func (d disk) heal() {
	if os.Getuid() != 0 {
		d.chmod(0o700)
		return
	}
	must(d.t, os.Remove(filepath.Join(d.dir, "filler")))
}

func (d disk) chmod(mode os.FileMode) {
	must(d.t, filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = os.Chmod(path, mode)
		}
		return err
	}))
}

// TestStoreFails: what an application writes while its store fails is not
// reported complete, whether the application was told of it or not; what had
// been durable is there, and the next run goes on from it.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		line   string
		status string
	}{
		"while the application writes": {"echo second > $OUT/second && sync $OUT/second", "1"},
		"at the end":                   {"echo second > $OUT/second", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoom(t, os.Getuid())
			d := newDisk(r)
			run := r.start()
			run.do("echo first > $OUT/first && sync $OUT/first")
			d.fail()
			run.tell(tc.line)
			if status := run.hear(); status != tc.status {
				t.Errorf("the application says %q, want %q", status, tc.status)
			}
			run.tell("exit 0")
			run.ends(cli.ExitIncomplete, "finishing output report", "not everything is durable", "hint: ")
			if out := run.stdout.String(); out != "" {
				t.Errorf("standard output is %q", out)
			}
			if last := r.last(); last.Complete || !strings.Contains(last.Detail, "finishing output report") {
				t.Errorf("recorded as %+v", last)
			}
			r.checkNothingLeft()

			d.heal()
			again := r.start()
			again.do("cp $OUT/first $OUT/again")
			again.tell("exit 0")
			again.ends(0)
			if files := r.decrypt(again.reference("output")); files["first"] != "first\n" || files["again"] != "first\n" {
				t.Errorf("the output is %q", files)
			}
		})
	}
}

// TestStoreFailsAndHeals: a store that failed while the application wrote, and
// took everything later, is told: by the exit code and the record, although all
// is durable and the reference is printed.
func TestStoreFailsAndHeals(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	d := newDisk(r)
	run := r.start()
	run.do("echo first > $OUT/first && sync $OUT/first")
	d.fail()
	run.tell("echo second > $OUT/second && sync $OUT/second")
	if status := run.hear(); status != "1" {
		t.Errorf("the application says %q, want 1", status)
	}
	d.heal()
	run.do("sync $OUT/second")
	run.tell("exit 0")
	run.ends(cli.ExitUnavailable, "the store failed", "hint: look at how the programs that wrote there ended")
	if files := r.decrypt(run.reference("partial")); files["first"] != "first\n" || files["second"] != "second\n" {
		t.Errorf("the output is %q", files)
	}
	if last := r.last(); !last.Completed || last.Complete || !strings.Contains(last.Detail, "the store failed") {
		t.Errorf("recorded as %+v", last)
	}
	r.checkNothingLeft()
}

// TestOlderOutput: a host that puts back an older state of an output, or none,
// is refused by the next run, which knows from the ledger how far it had come.
func TestOlderOutput(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	write := func(name string) {
		run := r.start()
		run.do("echo " + name + " > $OUT/" + name)
		run.tell("exit 0")
		run.ends(0)
	}
	store, older, newer := r.Path("store", "output"), r.Path("store", "older"), r.Path("store", "newer")
	write("first")
	must(t, os.CopyFS(older, os.DirFS(store)))
	write("second")
	must(t, os.Rename(store, newer))

	must(t, os.Rename(older, store))
	r.launch().ends(cli.ExitRefused, "mounting report", "the manifest of epoch 2 is missing", "hint: the store may be withholding")
	r.checkNothingLeft()
	must(t, os.RemoveAll(store))
	r.launch().ends(cli.ExitRefused, "mounting report", "the manifest of epoch 2 is missing")
	if last := r.last(); last.Complete || !strings.Contains(last.Detail, "epoch 2 is missing") {
		t.Errorf("recorded as %+v", last)
	}

	// With the newest put back, all is well.
	must(t, os.RemoveAll(store))
	must(t, os.Rename(newer, store))
	run := r.start()
	run.do("cat $OUT/first $OUT/second > $OUT/third")
	run.tell("exit 0")
	run.ends(0)
	if got := r.decrypt(run.reference("output"))["third"]; got != "first\nsecond\n" {
		t.Errorf("the output has %q", got)
	}
}

// TestWithheldTail: a host that withholds the end of a killed run's journal is
// refused, and with the end put back it is recovered.
func TestWithheldTail(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	run := r.start("--consent-interval", "50ms")
	run.do("echo first > $OUT/first && sync $OUT/first")
	run.do("echo second > $OUT/second && sync $OUT/second")
	last, sequence := r.newestRecord()
	until(t, "the journal's head is in the ledger", func() bool {
		heads := r.entries("journal-head")
		return len(heads) > 0 && heads[len(heads)-1].Body.Sequence >= sequence
	})
	must(t, run.cmd.Process.Kill())
	run.wait()
	until(t, "the application ends", func() bool { return len(r.processes()) == 0 })
	tail, err := os.ReadFile(last)
	must(t, err)
	must(t, os.Remove(last))
	r.launch().ends(cli.ExitRefused, "mounting report", "record ", " is missing", "hint: the store may be withholding")

	must(t, errors.Join(os.Remove(last), os.WriteFile(last, tail, 0o600)))
	again := r.start()
	again.tell("exit 0")
	again.ends(0)
	if files := r.decrypt(again.reference("output")); files["first"] != "first\n" || files["second"] != "second\n" {
		t.Errorf("the output is %q", files)
	}
}

// newestRecord returns the file and the sequence of the output's newest journal
// record.
func (r *site) newestRecord() (path string, sequence uint64) {
	r.t.Helper()
	store := r.Path("store", "output")
	must(r.t, filepath.WalkDir(store, func(p string, _ fs.DirEntry, err error) error {
		name, _ := filepath.Rel(store, p)
		if _, n, ok := format.ParseRecordName(filepath.ToSlash(name)); ok && n > sequence {
			path, sequence = p, n
		}
		return err
	}))
	if sequence < 2 {
		r.t.Fatalf("the journal has %d records", sequence)
	}
	return path, sequence
}
