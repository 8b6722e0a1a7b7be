package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"cloister/governance/statement"
	"cloister/internal/cleanroom"
	"cloister/internal/cli"
)

// jobScript is an application that does what its caller sends.
const jobScript = `[ -s parameters ] || echo by itself > result; . ./parameters`

// jobsRoom is a run whose contract has jobs, which the analyst may start.
type jobsRoom struct {
	*process
	address string
}

func newJobsRoom(t *testing.T, start string, jobs []string, args ...string) *jobsRoom {
	t.Helper()
	port := freePort(t)
	r := newRoomRunning(t, os.Getuid(), jobScript, func(r *cleanroom.Room) {
		r.Ports = [][]string{{"--name", "web", "--port", port, "--application-port", "8080"}}
		r.Application, r.Work = []string{"--start", start}, append([]string{"--by", "analyst", "--result-for", "analyst", "--max-result", "64"}, jobs...)
	})
	run := &jobsRoom{r.launch(args...), "127.0.0.1:" + port}
	until(t, "the endpoint is open", func() bool { return strings.Contains(run.stderr.String(), "endpoint is open") })
	return run
}

// job is `cloister job` by a party.
func (r *jobsRoom) job(party, what string, args ...string) (string, error) {
	r.t.Helper()
	all := append(r.By(party, "job", what), "--platform", "simulated:"+r.Path("guest"))
	return r.Cloister(append(append(all, args...), r.address)...)
}

// must is job of the analyst's that must succeed.
func (r *jobsRoom) must(what string, args ...string) string {
	r.t.Helper()
	out, err := r.job("analyst", what, args...)
	must(r.t, err)
	return out
}

// starts has the analyst start a job that does this, and returns its id.
func (r *jobsRoom) starts(script string, args ...string) (id string, err error) {
	r.t.Helper()
	file := r.Path(fmt.Sprintf("parameters-%x", sha256.Sum256([]byte(script))))
	must(r.t, os.WriteFile(file, []byte(script), 0o644))
	out, err := r.job("analyst", "start", append([]string{"--json", "--parameters", file}, args...)...)
	var said saidOfJob
	_ = json.Unmarshal([]byte(out), &said)
	return said.ID, err
}

// state waits until a job is in a state.
func (r *jobsRoom) state(id, want string) (said saidOfJob) {
	r.t.Helper()
	until(r.t, "job "+id+" is "+want, func() bool {
		must(r.t, json.Unmarshal([]byte(r.must("status", "--json", "--job", id)), &said))
		return said.State == want
	})
	return said
}

// recordedJobs is what the record says of jobs.
func (r *jobsRoom) recordedJobs() (jobs []statement.Job) {
	r.t.Helper()
	dec := json.NewDecoder(strings.NewReader(r.cloister("audit", "list", "--json", "--ledger", r.Path("ledger"))))
	for dec.More() {
		var e struct {
			Type string
			Body json.RawMessage
		}
		must(r.t, dec.Decode(&e))
		if e.Type == string(statement.TypeJob) {
			var j statement.Job
			must(r.t, json.Unmarshal(e.Body, &j))
			jobs = append(jobs, j)
		}
	}
	return jobs
}

func wantExit(t *testing.T, what string, err error, code int, said string) {
	t.Helper()
	if exitOf(err) != code || !strings.Contains(fmt.Sprint(err), said) {
		t.Errorf("%s: %v, want exit code %d and %q", what, err, code, said)
	}
}

// TestJobResult: the application leaves a plain file, and the party that the contract
// gives it to has it; nobody else, and not the record.
func TestJobResult(t *testing.T) {
	t.Parallel()
	r := newJobsRoom(t, "manual", nil)
	id, err := r.starts(`echo 40 > progress; cat $IN/private/secret.txt > result; cp result $OUT/kept`)
	must(t, err)
	said := r.state(id, workEnded)
	if *said.Exit != 0 || *said.Length != 20 || *said.Progress != 40 || said.Party != "analyst" {
		t.Errorf("%+v", said)
	}
	_, err = r.starts("again")
	wantExit(t, "a job more than the contract has", err, cli.ExitConflict, "takes no further job")
	_, err = r.job("hospital", "result", "--job", id)
	wantExit(t, "another party", err, cli.ExitDenied, "does not have party hospital given results")
	_, err = r.job("hospital", "start")
	wantExit(t, "another party's start", err, cli.ExitDenied, "does not have party hospital start jobs")
	var told saidOfJob
	out, err := r.job("hospital", "status", "--json", "--job", id)
	must(t, err)
	must(t, json.Unmarshal([]byte(out), &told))
	if told.State != workEnded || told.Length != nil || told.Progress != nil || told.Salt != "" {
		t.Errorf("the hospital is told %s", out)
	}
	_, err = r.job("analyst", "result", "--job", strings.Repeat("0", 32))
	wantExit(t, "no such job", err, cli.ExitNotFound, "no such job")

	var kept struct {
		Digest, Salt string
		Size         int
	}
	must(t, json.Unmarshal([]byte(r.must("result", "--json", "--job", id, "--out", r.Path("answer"))), &kept))
	if got, err := os.ReadFile(r.Path("answer")); string(got) != "for the owner alone\n" || err != nil {
		t.Errorf("the result is %q, %v", got, err)
	}
	r.ends(0)
	if files := r.decrypt(r.reference("output")); files["kept"] != "for the owner alone\n" {
		t.Errorf("the output is %q", files)
	}
	jobs := r.recordedJobs()
	if len(jobs) != 3 {
		t.Fatalf("recorded are %+v", jobs)
	}
	start, end, result := jobs[0], jobs[1], jobs[2]
	if start.Phase != "start" || start.ID != id || start.Party != "analyst" || start.Parameters == nil || end.Phase != "end" || *end.Exit != 0 {
		t.Errorf("recorded are %+v", jobs)
	}
	if result.Phase != "result" || result.Party != "analyst" || *result.Result != *end.Result || result.Result.Size != 20 || result.Result.Digest != kept.Digest {
		t.Errorf("the result is recorded as %+v, %+v, and was handed over as %+v", end, result, kept)
	}
	if list := r.cloister("audit", "list", "--ledger", r.Path("ledger")); !strings.Contains(list, "hands over of job "+id) || strings.Contains(list, "owner alone") {
		t.Errorf("the record says %s", list)
	}
	r.checkNothingLeft()
}

// TestJobResultThatIsNotHandedOver: what is too large is refused by name with the
// remedy, and so is what is no plain file.
func TestJobResultThatIsNotHandedOver(t *testing.T) {
	t.Parallel()
	r := newJobsRoom(t, "manual", []string{"--count", "3"})
	for script, want := range map[string]struct {
		code int
		said string
	}{
		`head -c 65 /dev/zero > result`: {cli.ExitRefused, "more than the 64 bytes that the contract lets out: have the application write it to a datasink"},
		`ln -s /etc/passwd result`:      {cli.ExitRefused, "is not handed over"},
		`: > $OUT/instead`:              {cli.ExitNotFound, "the job left no result"},
	} {
		id, err := r.starts(script)
		must(t, err)
		_, err = r.job("analyst", "result", "--wait", "1m", "--job", id)
		wantExit(t, script, err, want.code, want.said)
	}
	r.ends(0)
	for _, j := range r.recordedJobs() {
		if j.Result != nil {
			t.Errorf("recorded is %+v", j)
		}
	}
}

// TestJobByItself: an application that starts by itself has a result too, under its
// run's id; a run whose results nobody takes ends all the same.
func TestJobByItself(t *testing.T) {
	t.Parallel()
	r := newJobsRoom(t, "auto", nil)
	id := strings.Fields(strings.SplitN(r.must("status"), "run ", 2)[1])[0]
	if got := r.must("result", "--wait", "1m", "--job", id); got != "by itself" {
		t.Errorf("the result is %q", got)
	}
	r.ends(0)
	r.launch("--keep-results", "1ms").ends(0)
}

// TestJobResultsOfAll: a run goes on until each party that the contract gives results
// has had them.
func TestJobResultsOfAll(t *testing.T) {
	t.Parallel()
	r := newJobsRoom(t, "manual", []string{"--result-for", "hospital"})
	id, err := r.starts("printf both > result")
	must(t, err)
	for _, party := range []string{"analyst", "analyst", "hospital"} {
		got, err := r.job(party, "result", "--wait", "1m", "--job", id)
		must(t, err)
		if got != "both" {
			t.Errorf("party %s has %q", party, got)
		}
	}
	r.ends(0)
	var to []string
	for _, j := range r.recordedJobs() {
		if j.Phase == statement.PhaseResult {
			to = append(to, j.Party)
		}
	}
	if got := strings.Join(to, " "); got != "analyst hospital" {
		t.Errorf("the record has the result handed over to %s", got)
	}
}

// TestJobs: several a run, some at a time, each with its own directory, progress, exit
// code and end, and each with a consent check of its own.
func TestJobs(t *testing.T) {
	t.Parallel()
	r := newJobsRoom(t, "manual", []string{"--count", "5", "--at-once", "2", "--consent", "job"})
	const waits = `echo %[1]s > result; echo 30 > progress; while [ ! -e $OUT/%[1]s ]; do sleep 0.05; done; echo $CLOISTER_JOB > $OUT/done-%[1]s; exit %[2]d`
	one, err := r.starts(fmt.Sprintf(waits, "one", 3))
	must(t, err)
	r.state(one, workRunning)
	two, err := r.starts(fmt.Sprintf(waits, "two", 0))
	must(t, err)
	until(t, "progress", func() bool {
		said := r.state(two, workRunning)
		return *said.Progress == 30
	})
	_, err = r.starts("exit 0")
	wantExit(t, "a third at a time", err, cli.ExitUnavailable, "2 jobs run, as many as the contract has at a time")
	again, err := r.starts(fmt.Sprintf(waits, "two", 0), "--job", two)
	must(t, err)
	if again != two {
		t.Errorf("the same call found job %s, not %s", again, two)
	}
	_, err = r.starts("exit 0", "--job", two)
	wantExit(t, "another job of the same id", err, cli.ExitConflict, "is another one")
	_, err = r.job("analyst", "result", "--job", two)
	wantExit(t, "a result before the end", err, cli.ExitConflict, "the job has not ended")

	_, err = r.job("hospital", "cancel", "--job", one)
	must(t, err)
	if said := r.state(one, workCancelled); *said.Exit != 143 || said.Length != nil || !strings.Contains(said.Why, "party hospital cancelled the job") {
		t.Errorf("the job that was cancelled is %+v", said)
	}
	three, err := r.starts(`: > $OUT/two; exit 4`)
	must(t, err)
	if said := r.state(two, workEnded); *said.Exit != 0 {
		t.Errorf("%+v", said)
	}
	if said := r.state(three, workEnded); *said.Exit != 4 {
		t.Errorf("%+v", said)
	}
	if got := r.must("result", "--job", two); got != "two" {
		t.Errorf("the result is %q", got)
	}
	if list := strings.Split(r.must("list"), "\n"); len(list) != 3 || !strings.Contains(list[0], one) || !strings.Contains(list[2], three+": ended, exit code 4") {
		t.Errorf("listed are %q", list)
	}
	r.must("finish")
	r.ends(143) // a signal ended one of them: what that wrote may be half
	if files := r.decrypt(r.reference("partial")); files["done-two"] != two+"\n" || len(files) != 2 {
		t.Errorf("the output is %q", files)
	}
	var asked []string
	for _, e := range r.entries("consent-check") {
		if id, ok := strings.CutPrefix(e.Body.What, "starting job "); ok {
			asked = append(asked, id)
		}
	}
	if got := strings.Join(asked, " "); got != one+" "+two+" "+three {
		t.Errorf("consent was asked for jobs %s", got)
	}
	r.checkNothingLeft()
}

// TestJobsWithoutConsent: consent withdrawn between two jobs refuses the next, which
// is what asks here, and ends the one that runs.
func TestJobsWithoutConsent(t *testing.T) {
	t.Parallel()
	r := newJobsRoom(t, "manual", []string{"--count", "3", "--at-once", "2", "--consent", "job"}, "--consent-interval", "1h", "--grace", "1s")
	one, err := r.starts(`trap '' TERM; echo before > $OUT/before; while :; do sleep 0.05; done`)
	must(t, err)
	r.state(one, workRunning)
	r.cloister(r.By("hospital", "consent", "withdraw")...)
	_, err = r.starts(`echo never > $OUT/never`)
	wantExit(t, "a job without consent", err, cli.ExitDenied, `party \"hospital\" withdrew its consent to execution`)
	r.ends(cli.ExitRefused, "the application was ended", "starting job", `withdrew its consent`)
	if files := r.decrypt(r.reference("partial")); files["before"] != "before\n" || len(files) != 1 {
		t.Errorf("the output is %q", files)
	}
	refused := r.entries("refusal")
	if len(refused) != 1 || !strings.Contains(refused[0].Body.Reason, "starting job") {
		t.Errorf("recorded is %+v", refused)
	}
	if last := r.last(); !last.Completed || last.Complete || !strings.Contains(last.Detail, "withdrew its consent") {
		t.Errorf("recorded as %+v", last)
	}
	r.checkNothingLeft()
}
