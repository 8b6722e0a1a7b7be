package main

import (
	"os"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
	"cloister/internal/cli"
	"cloister/policy/cce"
)

// TestReplicaTwiceAtOnce: a host that starts one replica twice makes nothing of it.
// The record counts both; the later takes the output over, with what was durable in
// it, and the earlier does not come to its end.
func TestReplicaTwiceAtOnce(t *testing.T) {
	t.Parallel()
	r := newRoomWith(t, os.Getuid(), func(room *cleanroom.Room) { room.Replicas = 2 })
	one := r.replica("0")
	if said := one.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	one.do("echo one > $OUT/one && sync $OUT/one")
	// It opens the output; on this one machine its mounts are taken, too.
	r.replica("0").ends(cli.ExitConflict, "recovered what an earlier writer left", "a volume is mounted there already")
	one.tell("exit 0")
	one.ends(cli.ExitIncomplete, "another writer has taken the output volume over")
	for _, run := range r.record() {
		if run.Complete {
			t.Errorf("recorded as complete: %+v", run)
		}
	}
	if said := r.cloister("audit", "verify", "--ledger", r.Path("ledger")); !strings.Contains(said, "MORE THAN ONCE: 0 (2 runs, 0 complete)") {
		t.Errorf("audit verify says %s", said)
	}
	again := r.replica("0")
	again.hear()
	again.do("test \"$(cat $OUT/one)\" = one")
	again.tell("exit 0")
	again.ends(0)
}

// TestSidecarReplica: beside a shim too, a replica is told which it is, by the runtime
// and not by its own container's host, and writes the volume that is its own.
func TestSidecarReplica(t *testing.T) {
	t.Parallel()
	c := newPair(t, func(r *cleanroom.Room) { r.Replicas = 2 })
	c.Env = append(c.Env, cce.ReplicaVariable+"=1")
	sidecar := c.sidecar()
	application := c.application(append(c.confined(), "--env", cce.ReplicaVariable+"=0", "--env", "CLOISTER_REPLICA_INDEX=0")...)
	if said := application.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	application.do("echo $CLOISTER_REPLICA_INDEX of $CLOISTER_REPLICA_COUNT > $OUT/part")
	application.tell("exit 0")
	application.ends(0)
	sidecar.ends(0)
	line := strings.Fields(sidecar.stdout.String())
	if len(line) != 3 || line[0] != "output" || line[1] != "report-1" {
		t.Fatalf("standard output is %q", &sidecar.stdout)
	}
	dir := c.Path("part")
	c.cloister("prep", "decrypt", "--key", c.Path("analyst.key"), "--reference", line[2], c.Path("store", "output", "replica-1"), dir)
	if got, err := os.ReadFile(dir + "/part"); err != nil || string(got) != "1 of 2\n" {
		t.Errorf("it was told %q, %v", got, err)
	}
	if said := c.cloister("audit", "verify", "--ledger", c.Path("ledger")); !strings.Contains(said, "1 of 2 replicas are complete; MISSING: 0") {
		t.Errorf("audit verify says %s", said)
	}
}
