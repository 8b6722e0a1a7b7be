package main

import (
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"cloister/governance/statement"
	"cloister/internal/cleanroom"
	"cloister/internal/cli"
)

// newJobRoom waits for a call at an endpoint.
func newJobRoom(t *testing.T) (run *process, job func(what, party string) (string, error)) {
	t.Helper()
	port := freePort(t)
	r := newRoomWith(t, os.Getuid(), func(r *cleanroom.Room) {
		r.Ports = [][]string{{"--name", "web", "--port", port, "--application-port", "8080"}}
		r.Application = []string{"--start", "manual"}
	})
	run = r.launch()
	until(t, "the run waits", func() bool { return strings.Contains(run.stderr.String(), "the run waits for a call") })
	return run, func(what, party string) (string, error) {
		return r.Cloister(append(r.By(party, "job", what, "127.0.0.1:"+port), "--platform", "simulated:"+r.Path("guest"))...)
	}
}

// TestJob: nothing is asked of anybody before a party calls; then the order of the
// user flow; once; and any party may end it.
func TestJob(t *testing.T) {
	t.Parallel()
	run, job := newJobRoom(t)
	if got, err := job("status", "hospital"); err != nil || !strings.HasSuffix(got, ": waiting") {
		t.Errorf("status: %q, %v", got, err)
	}
	if strings.Contains(run.stderr.String(), "consent is asked") {
		t.Error("consent is asked before the call")
	}
	if got, err := job("start", "analyst"); err != nil || !strings.HasSuffix(got, ": started") && !strings.HasSuffix(got, ": running") {
		t.Errorf("start: %q, %v", got, err)
	}
	if said := run.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	if got, err := job("status", "hospital"); err != nil || !strings.HasSuffix(got, ": running") {
		t.Errorf("status: %q, %v", got, err)
	}
	if _, err := job("start", "analyst"); exitOf(err) != cli.ExitConflict {
		t.Errorf("a second start: %v", err)
	}
	run.do("echo half > $OUT/half")
	if _, err := job("cancel", "hospital"); err != nil {
		t.Errorf("cancel: %v", err)
	}
	run.ends(cli.ExitIncomplete, "party hospital cancelled the run")
	if files := run.decrypt(run.reference("partial")); files["half"] != "half\n" {
		t.Errorf("the output is %q", files)
	}
}

// TestJobOfStrangers: who is no party of the contract, or signs nothing, starts
// nothing; a run that is cancelled before it began is in no record.
func TestJobOfStrangers(t *testing.T) {
	t.Parallel()
	run, job := newJobRoom(t)
	run.cloister("party", "keygen", "--name", "stranger", run.Path("stranger.party"))
	if _, err := job("start", "stranger"); err == nil {
		t.Error("a stranger starts the job")
	}
	address := strings.TrimPrefix(strings.Fields(run.stderr.String()[strings.Index(run.stderr.String(), "address="):])[0], "address=")
	proxied := called{process: run, web: address}
	plain, end := proxied.proxy(address)
	key, err := statement.GenerateKey(statement.Ed25519)
	must(t, err)
	_, waits, _ := strings.Cut(run.stderr.String(), "the run waits for a call")
	_, id, _ := strings.Cut(waits, " run=")
	signed, err := statement.SignCall(statement.Call{Method: "POST", Target: "job", Run: strings.Fields(id)[0]}, nil, time.Now(), key)
	must(t, err)
	for why, authorization := range map[string]string{"must sign the call": "", "nobody who is a party": callScheme + signed, "malformed": callScheme + "a.b.c"} {
		req, err := http.NewRequest("POST", "http://"+plain+"/.well-known/cloister/job", nil)
		must(t, err)
		req.Header.Set("Authorization", authorization)
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(string(body), why) {
			t.Errorf("%q: %d %s, want a refusal that says %q", authorization, resp.StatusCode, body, why)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	end()
	if got, err := job("status", "hospital"); err != nil || !strings.HasSuffix(got, ": waiting") {
		t.Errorf("status: %q, %v", got, err)
	}
	if _, err := job("cancel", "hospital"); err != nil {
		t.Error(err)
	}
	run.ends(cli.ExitIncomplete, "party hospital cancelled the run")
}
