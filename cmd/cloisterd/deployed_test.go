package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
)

// A runtime that the platform started is ended by `deploy down` in order: what the
// application wrote is sealed and recorded, and nothing is left of it; what would
// take its keys away under it is refused before.
func TestDeployedAndTakenDown(t *testing.T) {
	r := newRoomWith(t, os.Getuid(), func(r *cleanroom.Room) { r.LedgerAddress, r.Groups = true, true })
	specification, dir := r.Path("specification.yaml"), r.Path("deploy")
	r.cloister("deploy", "template", "--out", dir, specification)
	place := func(args ...string) []string {
		return r.By("analyst", append(append([]string{}, args...), "--resource-group", "simulated", dir, specification)...)
	}
	r.cloister(place("deploy", "up", "--yes")...)
	app := &process{site: r, ended: make(chan struct{})} // the cloud's, which ends with it
	if said := app.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	app.do(`echo half > "$OUT/half.txt"`)
	if status := r.cloister(place("deploy", "status")...); !strings.Contains(status, "runs checksums, or was killed") {
		t.Errorf("status says %s", status)
	}
	_, err := r.Cloister(r.By("analyst", "teardown", "--yes", "--specification", specification, "--key-release-policy", r.ReleasePolicy())...)
	if exit, ok := err.(interface{ Unwrap() error }); !ok || exit.Unwrap().(*exec.ExitError).ExitCode() != 6 || !strings.Contains(err.Error(), "has no end in the record") {
		t.Errorf("teardown of a run that is live: %v", err)
	}
	if down := r.cloister("deploy", "down", "--resource-group", "simulated", dir, specification); !strings.Contains(down, "deleted    container group") {
		t.Errorf("down says %s", down)
	}
	if runs := r.cloister(r.By("analyst", "runs", "list", "--specification", specification)...); !strings.Contains(runs, "INCOMPLETE: ") {
		t.Errorf("the record says %s", runs)
	}
	r.cloister(r.By("analyst", "results", "--partial", "--specification", specification, "--key", r.Path("analyst.key"), r.Path("result"))...)
	if got, err := os.ReadFile(r.Path("result", "report", "half.txt")); string(got) != "half\n" {
		t.Errorf("what was sealed is %q, %v", got, err)
	}
}
