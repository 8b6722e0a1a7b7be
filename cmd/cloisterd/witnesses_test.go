package main

import (
	"os"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
	"cloister/internal/cli"
)

// TestRunUnderWitnesses: the specification names three witnesses, of which two must
// cosign, each a process of its own.
func TestRunUnderWitnesses(t *testing.T) {
	t.Parallel()
	r := newRoomWith(t, os.Getuid(), func(r *cleanroom.Room) { r.Witnesses, r.Threshold = 3, 2 })
	run := func() {
		t.Helper()
		p := r.start("--consent-interval", "100ms")
		p.do("echo cosigned > $OUT/said")
		p.tell("exit 0")
		p.ends(0)
		if last := r.last(); !last.Complete {
			t.Errorf("recorded as %+v", last)
		}
	}
	run() // all up
	if out := r.cloister("audit", "verify", "--ledger", r.Path("ledger"), "--specification", r.Path("specification.yaml")); !strings.Contains(out, "witnesses cosigned the checkpoint") {
		t.Errorf("the audit says %s", out)
	}
	must(t, r.StopWitness(2))
	run() // one down
	must(t, r.StartWitness(2))
	must(t, r.StopWitness(1))
	run() // one lags, by what was said while it was down, and is needed

	before := len(r.record())
	must(t, r.StopWitness(2))
	down := r.launch()
	down.ends(cli.ExitUnavailable, "1 of 3 witnesses cosigned the checkpoint", "2 are needed", "see that the witnesses run")
	if runs := r.record(); len(runs) != before {
		t.Errorf("a run that no two witnesses saw is in the record: %+v", runs[before:])
	}

	// Where one is down, the withdrawal of another's party ends what runs, although
	// its ledger takes no word of it.
	must(t, r.StartWitness(2))
	withdrawn := r.start("--consent-interval", "100ms", "--grace", "300ms")
	withdrawn.do("echo before > $OUT/before")
	r.cloister("witness", "withdraw", "--reason", "enough", r.Witness(0))
	withdrawn.ends(cli.ExitUnavailable, "the application was ended", "1 of 3 witnesses cosigned the checkpoint", "the party of this witness has withdrawn")
	r.checkNothingLeft()
	r.cloister("witness", "resume", r.Witness(0))
	must(t, r.StartWitness(1))
}
