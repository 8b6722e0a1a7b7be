package main

import (
	"os"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
	"cloister/internal/cli"
)

// TestResults: the entitled fetch a run's outputs by its completion record alone,
// the owner with a key file and a recipient with its party's; others are told, and
// what did not come to its end is fetched only if that is said.
func TestResults(t *testing.T) {
	t.Parallel()
	r := newRoomWith(t, os.Getuid(), func(r *cleanroom.Room) {
		r.Recipients, r.Code = []string{"hospital"}, r.Path("sources")
		must(t, os.MkdirAll(r.Code, 0o755))
		must(t, os.WriteFile(r.Code+"/work.sh", []byte("true\n"), 0o644))
	})
	by := func(party string, args ...string) []string {
		return append(r.By(party, args...), "--specification", r.Path("specification.yaml"))
	}
	results := func(party, out string, more ...string) error {
		_, err := r.Cloister(append(append(by(party, "results"), more...), r.Path(out))...)
		return err
	}
	run := r.start()
	run.do("echo scored > $OUT/result")
	if err := results("hospital", "early"); exitOf(err) != cli.ExitUnavailable {
		t.Errorf("results of a run without an end: %v", err)
	}
	run.tell("exit 0")
	run.ends(0)

	if got := r.cloister(by("hospital", "runs", "wait")...); got != "report "+run.reference("output") {
		t.Errorf("runs wait printed %q", got)
	}
	if got := r.cloister(by("author", "runs", "list")...); !strings.HasSuffix(got, "complete, exit code 0, 1 output") {
		t.Errorf("runs list printed %q", got)
	}
	for party, key := range map[string][]string{"hospital": nil, "analyst": {"--key", r.Path("analyst.key")}} {
		if err := results(party, "of-"+party, key...); err != nil {
			t.Errorf("%s: %v", party, err)
			continue
		}
		if got, err := os.ReadFile(r.Path("of-"+party, "report", "result")); err != nil || string(got) != "scored\n" {
			t.Errorf("%s reads %q, %v", party, got, err)
		}
	}
	for name, tc := range map[string]struct {
		party, out string
		more       []string
		exit       int
		said       string
	}{
		"a party for whom nothing is":   {"author", "none", nil, cli.ExitDenied, "no output that party author can open"},
		"an owner without the key file": {"analyst", "none", nil, cli.ExitDenied, "give --key"},
		"another's key file":            {"analyst", "none", []string{"--key", r.Path("hospital.key")}, cli.ExitRefused, "output report"},
		"a folder that is there":        {"hospital", "of-hospital", nil, cli.ExitConflict, "is there already"},
		"a run that there is not":       {"hospital", "none", []string{"--run", "00"}, cli.ExitNotFound, "no run 00"},
	} {
		err := results(tc.party, tc.out, tc.more...)
		if exitOf(err) != tc.exit || !strings.Contains(err.Error(), tc.said) {
			t.Errorf("%s: %v, want exit code %d and %q", name, err, tc.exit, tc.said)
		}
		if _, err := os.Stat(r.Path("none")); err == nil {
			t.Errorf("%s: something is left", name)
		}
	}

	crashed := r.start()
	crashed.do("echo half > $OUT/half")
	must(t, crashed.cmd.Process.Signal(os.Interrupt))
	crashed.ends(cli.ExitIncomplete)
	if err := results("hospital", "none", "--run", r.last().ID); exitOf(err) != cli.ExitIncomplete {
		t.Errorf("of a run that was ended: %v", err)
	}
	if err := results("hospital", "half", "--partial"); err != nil {
		t.Errorf("what was durable: %v", err)
	}
	r.checkNothingLeft()
}
