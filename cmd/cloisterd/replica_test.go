package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
	"cloister/internal/cli"
	"cloister/policy/cce"
)

// replica starts the runtime as the host would, with an index.
func (r *site) replica(index string) *process {
	r.t.Helper()
	cmd, err := r.Runtime("guest")
	must(r.t, err)
	cmd.Env = append(cmd.Env, cce.ReplicaVariable+"="+index)
	return r.watchCommand(cmd)
}

// work has a replica write what it is told of itself, to its end, and returns the
// reference of its output.
func (r *site) work(index string) string {
	r.t.Helper()
	run := r.replica(index)
	if said := run.hear(); said != "up" {
		r.t.Fatalf("the application said %q", said)
	}
	run.do("mkdir -p $OUT/parts && echo $CLOISTER_REPLICA_INDEX of $CLOISTER_REPLICA_COUNT > $OUT/parts/$CLOISTER_REPLICA_INDEX")
	run.tell("exit 0")
	run.ends(0)
	line := strings.Fields(run.stdout.String())
	if len(line) != 3 || line[0] != "output" || line[1] != "report-"+index {
		r.t.Fatalf("standard output is %q", &run.stdout)
	}
	return line[2]
}

// TestReplicas: each writes volumes of its own, whatever its host tells it; the
// record says who is missing and who ran twice; merged, the outputs are one.
func TestReplicas(t *testing.T) {
	t.Parallel()
	r := newRoomWith(t, os.Getuid(), func(room *cleanroom.Room) { room.Replicas = 3 })
	for _, index := range []string{"", "3", "01", "-1", "4294967296"} {
		r.replica(index).ends(cli.ExitUsage, "the specification has 3 replicas")
	}
	zero, two := r.work("0"), r.work("2")
	verify := func(want string) {
		t.Helper()
		if said := r.cloister("audit", "verify", "--ledger", r.Path("ledger")); !strings.Contains(said, want) {
			t.Errorf("audit verify says %s\nwant %s", said, want)
		}
	}
	verify("2 of 3 replicas are complete; MISSING: 1\n")
	again, one := r.work("2"), r.work("1")
	verify("3 of 3 replicas are complete; MORE THAN ONCE: 2 (2 runs, 2 complete)\n")
	ids := map[string]bool{}
	for _, ref := range []string{zero, one, two} {
		ids[strings.Split(ref, ".")[1]] = true
	}
	if len(ids) != 3 || strings.Split(two, ".")[1] != strings.Split(again, ".")[1] {
		t.Errorf("the volumes are %v, and the third again %s", ids, again)
	}
	output := r.Path("store", "output")
	merge := []string{"prep", "merge", "--key", r.Path("analyst.key"), "--into", output, "--json"}
	for _, name := range []string{"replica-0", "replica-1", "replica-2"} {
		merge = append(merge, filepath.Join(output, name))
	}
	var merged struct{ Reference string }
	must(t, json.Unmarshal([]byte(r.cloister(merge...)), &merged))
	dir := r.Path("merged")
	r.cloister("prep", "decrypt", "--key", r.Path("analyst.key"), "--reference", merged.Reference, output, dir)
	for _, index := range []string{"0", "1", "2"} {
		if got, err := os.ReadFile(filepath.Join(dir, "parts", index)); err != nil || string(got) != index+" of 3\n" {
			t.Errorf("part %s: %q, %v", index, got, err)
		}
	}
}
