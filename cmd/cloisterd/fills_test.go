package main

import (
	"os"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
	"cloister/internal/cli"
)

// TestFillsOutput: an application that writes more than its output may hold, in a
// container of little memory, is told so by the write. The runtime and the input are
// unharmed, what it removes makes room, and the output is complete, with what it has.
func TestFillsOutput(t *testing.T) {
	t.Parallel()
	c := newContainersWith(t, func(r *cleanroom.Room) { r.Output = []string{"--publish", "at-end, padded"} })
	c.load("monolithic")
	args := append([]string{"--rm", "--network", "host", "--device", "/dev/fuse", "--cap-add", "SYS_ADMIN", "--memory", "640m", "--volume", c.Dir + ":" + c.Dir}, c.environment()...)
	run := c.launchContainer(append(append(args, "localhost/monolithic:test", "run"), c.measured()...)...)
	if said := run.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	run.do("dd if=/dev/zero of=$OUT/fits bs=1M count=16")
	run.do(`! dd if=/dev/zero of=$OUT/big bs=1M count=700 2> /tmp/why && grep -q "No space left on device" /tmp/why`)
	run.do("cat $IN/private/secret.txt && rm $OUT/big && cp $IN/private/secret.txt $OUT/secret")
	run.tell("exit 0")
	run.ends(0)
	files := c.decrypt(run.reference("output"))
	if len(files) != 2 || len(files["fits"]) != 16<<20 || files["secret"] != "for the owner alone\n" {
		t.Errorf("the output has %d files, of %d bytes and %q", len(files), len(files["fits"]), files["secret"])
	}
	if last := c.last(); !last.Complete {
		t.Errorf("recorded as %+v", last)
	}
}

// TestFillsDisk: an application that writes more than the store takes is told that
// it failed. The runtime goes on, its input serves it, what was durable is kept; once
// there is room it can write again. That the store failed on the way is said, by the
// exit code and the record.
func TestFillsDisk(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	d := newDisk(r) // of 4 MiB
	run := r.start()
	run.do("echo kept > $OUT/kept && sync $OUT/kept")
	if os.Getuid() != 0 { // who cannot have a disk of his own
		d.fail()
	}
	run.do(`dd if=/dev/urandom of=$OUT/big bs=1M count=64 conv=fsync 2> /tmp/why; test "$?" != 0`)
	run.do(`grep -q "Input/output error" /tmp/why`)
	run.do("cat $IN/private/secret.txt && test \"$(cat $OUT/kept)\" = kept")
	if os.Getuid() != 0 {
		d.heal()
	}
	run.do("rm $OUT/big && echo after > $OUT/after && sync $OUT/after")
	run.tell("exit 0")
	run.ends(cli.ExitUnavailable, "the store failed")
	files := r.decrypt(run.reference("partial"))
	if files["kept"] != "kept\n" || files["after"] != "after\n" || len(files) != 2 {
		t.Errorf("the output has %d files, %q", len(files), files)
	}
	if last := r.last(); !last.Completed || last.Complete || !strings.Contains(last.Detail, "the store failed") {
		t.Errorf("recorded as %+v", last)
	}
	r.checkNothingLeft()
}
