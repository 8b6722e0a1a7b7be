package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/policy/spec"
)

// TestPatternHidden: of an input that is fetched whole the store could as well be
// gone once the application runs, and an output that is published at the end is
// not written to before it, whatever the application does. What the store is asked
// request by request is fs's TestWholeAsksTheStoreTheSame and TestAtEndShowsNothing.
func TestPatternHidden(t *testing.T) {
	t.Parallel()
	r := newRoomWith(t, os.Getuid(), func(c *cleanroom.Room) {
		must(t, os.MkdirAll(c.Path("data"), 0o755))
		must(t, os.WriteFile(c.Path("data", "large"), make([]byte, 5<<20), 0o644))
		c.Input, c.Output = []string{"--fetch", "whole"}, []string{"--publish", "at-end, padded"}
	})
	if said := r.cloister("contract", "review", "--ledger", r.Path("ledger")); strings.Contains(said, "could leak") || strings.Contains(said, "publish:") {
		t.Errorf("the review says %s", said)
	}
	run := r.start("--consent-interval", "50ms")
	must(t, os.Rename(r.Path("store", "input"), r.Path("away")))
	before := r.stored("output")
	run.do("cat $IN/private/secret.txt > $OUT/copy && sync $OUT/copy && cp $IN/large $OUT/large && sync -f $OUT")
	run.do("for i in 1 2 3 4 5 6 7 8 9; do echo $i > $OUT/$i; sync $OUT/$i; done; rm $OUT/9; cat $OUT/copy")
	checks := len(r.entries("consent-check"))
	until(t, "heads are recorded at an interval", func() bool { return len(r.entries("consent-check")) > checks+1 })
	if after := r.stored("output"); !slices.Equal(after, before) {
		t.Errorf("before the end the store has %q, and at the start it had %q", after, before)
	}
	run.tell("exit 0")
	run.ends(0)
	must(t, os.Rename(r.Path("away"), r.Path("store", "input")))
	files := r.decrypt(run.reference("output"))
	if files["copy"] != "for the owner alone\n" || len(files["large"]) != 5<<20 || files["8"] != "8\n" || files["9"] != "" {
		t.Errorf("the output has %d files, copy %q", len(files), files["copy"])
	}
	r.checkNothingLeft()

	// Killed, it leaves nothing, and the next run begins where the one before ended.
	run = r.start()
	run.do("echo lost > $OUT/lost && sync $OUT/lost")
	must(t, run.cmd.Process.Kill())
	run.wait()
	until(t, "the application ends", func() bool { return len(r.processes()) == 0 })
	run = r.start()
	run.do("test ! -e $OUT/lost && grep -q owner $OUT/copy")
	run.tell("exit 0")
	run.ends(0)
}

// stored are the objects of a volume.
func (r *site) stored(volume string) (objects []string) {
	must(r.t, filepath.WalkDir(r.Path("store", volume), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			objects = append(objects, path)
		}
		return err
	}))
	return objects
}

// TestBudget: what does not fit is refused, with what it takes and what there is;
// what others are to have is not given away.
func TestBudget(t *testing.T) {
	const gib = 1 << 30
	s := spec.Specification{Model: spec.Monolithic, Application: spec.Application{Resources: &spec.Resources{MemoryMiB: 1024}},
		DataSources: []spec.Source{{Fetch: spec.FetchWhole}, {}}}
	b := newBudget(s, 2*gib) // 1024 for the application, 128 for the runtime, 256 for the other
	if err := b.grant(600 << 20); err != nil {
		t.Error(err)
	}
	err := b.grant(100 << 20)
	if fault.KindOf(err) != fault.Refused || err.Error() != "it takes 100 MiB of memory, and of the 2048 MiB that are available 40 are left for it" {
		t.Errorf("kind %v: %v", fault.KindOf(err), err)
	}
	s.DataSinks = []spec.Sink{{Publish: spec.PublishAtEndPadded}, {Publish: spec.PublishAtEndPadded}, {}}
	if b = newBudget(s, 2*gib); b.sources != 192<<20 || b.sink != 96<<20 {
		t.Errorf("inputs get %d MiB, each output %d", b.sources>>20, b.sink>>20)
	}
	s.DataSources = nil
	if b = newBudget(s, 2*gib); b.sink != 320<<20 {
		t.Errorf("each output gets %d MiB", b.sink>>20)
	}
	if b = newBudget(s, gib); b.sink != 0 {
		t.Errorf("each output gets %d MiB", b.sink>>20)
	}
	if have, err := availableMemory(); err != nil || have < 1<<20 {
		t.Errorf("%d bytes are available, %v", have, err)
	}
}

// TestWholeDoesNotFit: an input that is to be fetched whole and does not fit ends
// the start, and the record says why.
func TestWholeDoesNotFit(t *testing.T) {
	t.Parallel()
	r := newRoomWith(t, os.Getuid(), func(c *cleanroom.Room) {
		c.Input, c.Application = []string{"--fetch", "whole"}, []string{"--memory-mib", "1048576", "--milli-cpu", "1000"} // 1 TiB: nothing is left
	})
	r.launch().ends(cli.ExitRefused, "mounting source", "MiB that are available 0 are left", "hint: give the container more memory")
	if last := r.last(); last.Complete || !strings.Contains(last.Detail, "are left for it") {
		t.Errorf("recorded as %+v", last)
	}
}
