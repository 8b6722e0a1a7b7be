package main

import (
	"os"
	"strings"
	"testing"

	"cloister/governance/partyfile"
	"cloister/internal/cli"
)

// rotate has the analyst's key replaced, which the hospital vouches for; the new one is
// in analyst2.party.
func (r *site) rotate() {
	r.t.Helper()
	r.cloister("party", "keygen", "--name", "analyst", r.Path("analyst2.party"))
	r.cloister(r.By("analyst", "party", "rotate", "--new", r.Path("analyst2.party"), "--with", "hospital", "--out", r.Path("rotation"))...)
	p, err := partyfile.Read(r.Path("analyst2.party"))
	must(r.t, err)
	defer p.Destroy()
	r.cloister(r.By("hospital", "party", "cosign", "--key", p.Key.Public().Fingerprint(), r.Path("rotation"))...)
}

// TestJobAfterARotation: a party's key that is replaced while a run waits for a call
// starts nothing any more, and the new one does.
func TestJobAfterARotation(t *testing.T) {
	t.Parallel()
	r := newJobsRoom(t, "manual", nil)
	// Nothing was called for yet, so the run has read the log at its start alone.
	until(t, "the run waits", func() bool { return strings.Contains(r.stderr.String(), "the run waits for a call") })
	_, waits, _ := strings.Cut(r.stderr.String(), "the run waits for a call")
	_, run, _ := strings.Cut(waits, " run=")
	run = strings.Fields(run)[0]
	r.rotate()
	plain, _ := called{process: r.process}.proxyOf("hospital", r.address)
	c := &caller{r, plain, run, readDocument(t)}
	target := "jobs/" + randomID(t)
	c.call(c.sign("analyst", "PUT", target, nil), "PUT", target, nil, 401, "nobody who is a party")
	c.call(c.sign("analyst2", "PUT", target, nil), "PUT", target, nil, 202, `"party":"analyst"`)
	c.call(c.sign("analyst2", "GET", target+"/result", nil), "GET", target+"/result", nil, 409, "")
	until(t, "the job ends", func() bool { return strings.Contains(r.stderr.String(), "job ended") })
	got, err := r.job("analyst2", "result", "--wait", "1m", "--job", strings.TrimPrefix(target, "jobs/"))
	must(t, err)
	if got != "by itself" {
		t.Errorf("the result is %q", got)
	}
	r.ends(0)
}

// TestCallOffline: a record that was exported says which clean room it is, without the
// ledger; one that was changed, or is of another contract version, does not.
func TestCallOffline(t *testing.T) {
	t.Parallel()
	c := newCalled(t)
	c.serve()
	record, spec := c.Path("record.json"), c.Path("specification.yaml")
	c.cloister(c.By("analyst", "audit", "export", "--specification", spec, "--out", record)...)
	ask := func(file string, more ...string) (string, error) {
		return c.Cloister(append([]string{"call", "--export", file, "--platform", "simulated:" + c.Path("guest"), "https://" + c.web + "/say"}, more...)...)
	}
	if got, err := ask(record, "--specification", spec); err != nil || got != `GET /say  ""` {
		t.Errorf("%q, %v", got, err)
	}
	_, err := ask(record)
	wantExit(t, "nobody says whose record it is", err, cli.ExitUsage, "--export without --specification")
	_, err = ask(record, "--specification", spec, "--ledger", c.Ledger)
	wantExit(t, "both", err, cli.ExitUsage, "takes --ledger or --export")

	raw, err := os.ReadFile(record)
	must(t, err)
	lines := strings.SplitAfter(string(raw), "\n")
	short := c.Path("short.json")
	must(t, os.WriteFile(short, []byte(strings.Join(lines[:3], "")), 0o644))
	if _, err := ask(short, "--specification", spec); err == nil {
		t.Error("a record without its end is believed")
	}
	run := c.Path("run.json")
	c.cloister(c.By("analyst", "audit", "export", "--specification", spec, "--run", c.last().ID, "--out", run)...)
	_, err = ask(run, "--specification", spec)
	wantExit(t, "one run's record", err, cli.ExitUsage, "takes the whole record")
	c.tell("exit 0")
	c.ends(0)
}
