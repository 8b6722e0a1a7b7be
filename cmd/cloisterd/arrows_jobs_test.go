package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cloister/internal/cleanroom"
)

// jobArrows is the diagram "Clean Room - Execution" where the contract has jobs: each
// asks and is recorded for itself, and its result is recorded before the client has it.
func jobArrows(called bool) (row []string) {
	for _, d := range cleanRoom {
		switch d.seen {
		case "call":
			if called {
				row = append(row, d.seen)
			}
		case "application":
			row = append(row, "audit job", d.seen)
		case "application gone":
			row = append(row, d.seen, "audit job end", "audit result", "result")
		default:
			row = append(row, d.seen)
		}
	}
	return row
}

// TestArrowsOfJobs: the order of a run with a client's DoWork in it, which ends in a
// result: started by hand nothing comes before the call, and started by itself the
// application's one launch has a result all the same.
func TestArrowsOfJobs(t *testing.T) {
	t.Parallel()
	for start, called := range map[string]bool{"manual": true, "auto": false} {
		t.Run(start, func(t *testing.T) {
			t.Parallel()
			port := freePort(t)
			r := newRoomWith(t, os.Getuid(), func(c *cleanroom.Room) {
				c.Ports = [][]string{{"--name", "web", "--port", port, "--application-port", "8080"}}
				c.Application = []string{"--start", start}
				c.Work = []string{"--by", "analyst", "--result-for", "analyst", "--max-result", "64", "--consent", "job"}
			})
			o := observe(r)
			began := time.Now()
			o.saw("deploy")
			run := &jobsRoom{r.launch(), "127.0.0.1:" + port}
			id := o.begin(run, called)
			if said := run.hear(); said != "up" {
				t.Fatalf("the application said %q", said)
			}
			o.look()
			run.do("cat $IN/private/secret.txt > $CLOISTER_JOB_DIR/result")
			run.tell("exit 0")
			if got := run.must("result", "--wait", "1m", "--job", id); got != "for the owner alone" {
				t.Errorf("the result is %q", got)
			}
			o.saw("result")
			run.ends(0)
			arrows := o.joined(began)
			judgeArrows(t, [][]string{jobArrows(called)}, arrows)
			if n := len(slices.DeleteFunc(arrows, func(a arrow) bool { return a.what != "audit job" })); n != 1 {
				t.Errorf("%d jobs are recorded", n)
			}
		})
	}
}

// begin calls for a job where it is to be called for, and returns its id.
func (o *observer) begin(run *jobsRoom, called bool) (id string) {
	o.t.Helper()
	if !called {
		until(o.t, "the run begins", func() bool { return strings.Contains(run.stderr.String(), "run begins") })
		_, id, _ = strings.Cut(run.stderr.String(), "\"run begins\"")
		_, id, _ = strings.Cut(id, " run=")
		return strings.Fields(id)[0]
	}
	until(o.t, "the run waits", func() bool { return strings.Contains(run.stderr.String(), "the run waits for a call") })
	o.saw("call")
	var said saidOfJob
	must(o.t, json.Unmarshal([]byte(run.must("start", "--json")), &said))
	return said.ID
}
