package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloister/fs/format"
	"cloister/internal/cli"
	"cloister/policy/spec"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	for line, tc := range map[string]struct {
		want int
		word string
	}{
		"exit 0": {0, "output"}, "exit 7": {7, "output"}, // the end that it chose, whichever that is
		"kill -9 $$": {137, "partial"}, "kill -SEGV $$": {139, "partial"},
	} {
		run := r.start()
		run.do("echo " + strings.Fields(line)[0] + " > $OUT/said")
		run.tell(line)
		run.ends(tc.want)
		if got := r.decrypt(run.reference(tc.word))["said"]; got != strings.Fields(line)[0]+"\n" {
			t.Errorf("%s: the output says %q", line, got)
		}
		last := r.last()
		if complete := tc.word == "output"; last.Complete != complete || !complete && !strings.Contains(last.Detail, fmt.Sprintf("signal %d ended the application", tc.want-128)) {
			t.Errorf("%s: recorded as %+v", line, last)
		}
		r.checkNothingLeft()
	}

	// Before there is an application, the table's. A host that swaps what it hands
	// the runtime is found out by what is measured.
	canonical, err := os.ReadFile(r.Path("specification.json"))
	must(t, err)
	s, err := spec.ParseCanonical(canonical)
	must(t, err)
	s.Parties[0].SigningKey, s.Parties[1].SigningKey = s.Parties[1].SigningKey, s.Parties[0].SigningKey
	canonical, err = s.Canonical()
	must(t, err)
	must(t, os.WriteFile(r.Path("swapped.json"), canonical, 0o644))
	for name, tc := range map[string]struct {
		args []string
		want int
		said string
	}{
		"another specification": {[]string{"--specification-digest", "sha256:" + strings.Repeat("0", 64)}, cli.ExitRefused, "the measured command line pins"},
		"another party's key":   {[]string{"--specification", r.Path("swapped.json")}, cli.ExitRefused, "the measured command line pins"},
		"another ledger's key":  {[]string{"--ledger-key", s.Parties[0].SigningKey}, cli.ExitRefused, "the specification names the ledger key"},
		"no ledger":             {[]string{"--ledger", strings.Replace(r.Ledger, "/ledger,", "/absent,", 1)}, cli.ExitNotFound, "there is no /absent/contract here"},
		"no platform":           {[]string{"--platform", "magic"}, cli.ExitUsage, "no platform"},
		"no such option":        {[]string{"--nonsense"}, cli.ExitUsage, "nonsense"},
		"no interval":           {[]string{"--consent-interval", "0s"}, cli.ExitUsage, "--consent-interval"},
	} {
		run := r.launch(tc.args...)
		run.ends(tc.want, tc.said)
		if out := run.stdout.String(); strings.Contains(out, "report") {
			t.Errorf("%s: standard output has %q", name, out)
		}
	}
	r.cloister(r.By("hospital", "consent", "withdraw")...)
	r.launch().ends(cli.ExitRefused, "no consent to execution")
	if last := r.last(); last.Complete || !strings.Contains(last.Detail, "no consent") {
		t.Errorf("a run without consent is recorded as %+v", last)
	}
}

// TestTerminate: the application is given SIGTERM, and what it had written and
// writes then is kept, marked partial.
func TestTerminate(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	run := r.start()
	run.do("echo before > $OUT/before")
	run.tell(`trap 'echo after > $OUT/after; exit 0' TERM; echo 0 > ` + private + `/said; while :; do sleep 0.05; done`)
	run.hear()
	must(t, run.cmd.Process.Signal(syscall.SIGTERM))
	run.ends(cli.ExitIncomplete, "ended by a signal", "hint: ")
	files := r.decrypt(run.reference("partial"))
	if files["before"] != "before\n" || files["after"] != "after\n" {
		t.Errorf("the output is %q", files)
	}
	if last := r.last(); !last.Completed || last.Complete || !strings.Contains(last.Detail, "ended by a signal") {
		t.Errorf("recorded as %+v", last)
	}
	if out := r.cloister("audit", "verify", "--ledger", r.Path("ledger")); !strings.Contains(out, "INCOMPLETE: the run was ended by a signal") {
		t.Errorf("the audit says %s", out)
	}
	r.checkNothingLeft()
}

// TestTerminateStubborn: one that does not listen to SIGTERM is killed.
func TestTerminateStubborn(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	run := r.start("--grace", "300ms")
	run.do("trap '' TERM; echo kept > $OUT/kept")
	run.tell(`echo 0 > ` + private + `/said; while :; do sleep 0.05; done`)
	run.hear()
	must(t, run.cmd.Process.Signal(syscall.SIGTERM))
	run.ends(cli.ExitIncomplete, "exit=137")
	if got := r.decrypt(run.reference("partial"))["kept"]; got != "kept\n" {
		t.Errorf("the output has %q", got)
	}
	r.checkNothingLeft()
}

// TestDaemon: what the application leaves in the background, in a session of
// its own, ends with it, and the output is whole.
func TestDaemon(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	run := r.start()
	run.do("echo kept > $OUT/kept")
	run.tell(`setsid sh -c 'while :; do echo ` + r.Dir + ` >> $OUT/beat; done' < /dev/null > /dev/null 2>&1 & until [ -s $OUT/beat ]; do :; done`)
	run.hear()
	if p := r.processes(); len(p) < 3 { // the runtime, the application, the daemon
		t.Fatalf("there is no daemon among %q", p)
	}
	run.tell("exit 0")
	run.ends(0)
	files := r.decrypt(run.reference("output"))
	if files["kept"] != "kept\n" || !strings.HasPrefix(files["beat"], r.Dir+"\n") {
		t.Errorf("the output has %d bytes of beat and %q", len(files["beat"]), files["kept"])
	}
	r.checkNothingLeft()
}

// TestConsentWithdrawn: the application ends within the interval and the grace,
// its outputs are kept and marked, and the record says why.
func TestConsentWithdrawn(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	run := r.start("--consent-interval", "100ms", "--grace", "300ms")
	run.do("echo before > $OUT/before")
	r.cloister(r.By("hospital", "consent", "withdraw")...)
	withdrawn := time.Now()
	run.wait()
	// What `cloisterd run` promises: the interval, 10 s for the answer, the grace.
	if took := time.Since(withdrawn); took > 100*time.Millisecond+answerTime+300*time.Millisecond {
		t.Errorf("it ended, unmounted and erased its keys %s after the withdrawal", took)
	}
	run.ends(cli.ExitRefused, "the application was ended", `no consent to execution: party "hospital" withdrew`, "hint: ")
	if got := r.decrypt(run.reference("partial"))["before"]; got != "before\n" {
		t.Errorf("the output has %q", got)
	}
	if last := r.last(); !last.Completed || last.Complete || !strings.Contains(last.Detail, `party "hospital" withdrew`) {
		t.Errorf("recorded as %+v", last)
	}
	r.checkNothingLeft()
}

// TestHung: an application that does not listen to SIGTERM, and waits for an answer
// of its input that does not come, is ended all the same: its processes are gone
// before its output is made durable, and the record says why.
func TestHung(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("strace"); err != nil || os.Getuid() != 0 {
		t.Fatalf("holding the runtime up takes root and strace: run `make test-setup` (apt-get install strace): %v", err)
	}
	r := newRoom(t, os.Getuid())
	run := r.start("--consent-interval", "100ms", "--grace", "300ms")
	run.do("trap '' TERM; echo before > $OUT/before")
	release := r.holdReads(run)
	run.tell("echo 0 > " + private + "/said; cat $IN/private/secret.txt & dd if=$IN/private/secret.txt of=/dev/null iflag=direct")
	run.hear()
	r.cloister(r.By("hospital", "consent", "withdraw")...)
	until(t, "the run ends", func() bool { return strings.Contains(run.stderr.String(), `msg="run ends"`) })
	if dirs := r.mounted(); len(dirs) > 0 {
		t.Errorf("still mounted: %v", dirs)
	}
	release() // a thread that a debugger holds keeps a process from being gone
	run.ends(cli.ExitRefused, "the application was ended", `party "hospital" withdrew`)
	r.checkNothingLeft()
	if got := r.decrypt(run.reference("partial"))["before"]; got != "before\n" {
		t.Errorf("the output has %q", got)
	}
	if last := r.last(); !last.Completed || last.Complete || !strings.Contains(last.Detail, `party "hospital" withdrew`) {
		t.Errorf("recorded as %+v", last)
	}
}

// holdReads has every read of the runtime from its stores take longer than any
// test does, until they are released.
func (r *site) holdReads(run *process) (release func()) {
	r.t.Helper()
	strace := exec.Command("strace", "-f", "-o", r.Path("strace"), "-p", strconv.Itoa(run.cmd.Process.Pid), "-e", "trace=pread64", "-e", "inject=pread64:delay_enter=1000000000")
	said, err := strace.StderrPipe()
	must(r.t, err)
	must(r.t, strace.Start())
	release = sync.OnceFunc(func() {
		_ = strace.Process.Kill()
		_ = strace.Wait()
	})
	r.t.Cleanup(release)
	lines := bufio.NewScanner(said)
	for lines.Scan() && !strings.Contains(lines.Text(), "attached") {
	}
	must(r.t, lines.Err())
	go io.Copy(io.Discard, said)
	return release
}

// TestKilled: a runtime that is killed takes the application with it; the next
// start clears the dead mounts and recovers what was durable.
func TestKilled(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	run := r.start()
	run.do("echo durable > $OUT/durable && sync $OUT/durable")
	run.do(": > $OUT/late") // the kernel asks for the directory anew, and nobody answers
	must(t, run.cmd.Process.Kill())
	run.wait()
	until(t, "the application ends", func() bool { return len(r.processes()) == 0 })
	if dead := r.mounted(); len(dead) != 2 {
		t.Fatalf("after the kill there are %v; two dead mounts were expected", dead)
	}
	for _, file := range []string{"input/private/secret.txt", "report/durable"} {
		if text, err := os.ReadFile(r.Path("mnt", file)); err == nil {
			t.Errorf("%s can still be read: %q", file, text)
		}
	}
	if last := r.last(); last.Completed {
		t.Errorf("recorded as %+v", last)
	}
	if out := r.cloister("audit", "verify", "--ledger", r.Path("ledger")); !strings.Contains(out, "INCOMPLETE: no completion is recorded") {
		t.Errorf("the audit says %s", out)
	}

	// That the run had begun to write is in the ledger from before it did.
	journal := r.Path("store", "output", "journal")
	must(t, os.Rename(journal, r.Path("journal")))
	r.launch().ends(cli.ExitRefused, "record 1 of epoch 1 is missing")
	must(t, os.RemoveAll(journal))
	must(t, os.Rename(r.Path("journal"), journal))

	again := r.start()
	again.do("cp $OUT/durable $OUT/again && cat $IN/private/secret.txt")
	again.tell("exit 0")
	again.ends(0, "recovered what an earlier writer left")
	files := r.decrypt(again.reference("output"))
	if files["durable"] != "durable\n" || files["again"] != "durable\n" {
		t.Errorf("the output is %q", files)
	}
	if runs := r.record(); len(runs) != 3 || runs[0].Completed || !runs[2].Complete {
		t.Errorf("recorded are %+v", runs)
	}
	// The epoch that was recovered, 1, is signed as the one after it is.
	for epoch := range uint64(2) {
		if _, err := os.Stat(r.Path("store", "output", format.SignatureName(epoch+1))); err != nil {
			t.Error(err)
		}
	}
}

// holdLedger keeps everybody from appending to the ledger, until it is let go.
func (r *site) holdLedger() (release func()) {
	r.t.Helper()
	f, err := os.OpenFile(r.Path("ledger", "lock"), os.O_RDWR, 0)
	must(r.t, err)
	must(r.t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	return func() { f.Close() }
}

// TestTerminateBeforeStart: a signal that comes before there is an application.
func TestTerminateBeforeStart(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	release := r.holdLedger()
	defer release()
	ledger := r.Jobs()[len(r.Jobs())-1]
	run := r.launch()
	until(t, "the ledger waits for its lock", func() bool {
		locks, err := os.ReadFile("/proc/locks")
		must(t, err)
		for line := range strings.Lines(string(locks)) {
			if f := strings.Fields(line); f[1] == "->" && f[5] == strconv.Itoa(ledger) {
				return true
			}
		}
		return false
	})
	must(t, run.cmd.Process.Signal(syscall.SIGTERM))
	run.ends(cli.ExitIncomplete, "a signal ended the run before its application started")
	if out := run.stdout.String(); out != "" {
		t.Errorf("standard output is %q", out)
	}
	r.checkNothingLeft()
}

// TestNoAnswerIsNotYes: an application does not go on while nobody can say
// whether there is consent. What it wrote is kept.
func TestNoAnswerIsNotYes(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	run := r.start("--consent-interval", "100ms", "--grace", "300ms")
	run.do("echo before > $OUT/before")
	release := r.holdLedger()
	until(t, "the application is ended", func() bool { return strings.Contains(run.stderr.String(), `msg="application ended"`) })
	until(t, "the mounts are gone", func() bool { return len(r.mounted()) == 0 })
	release()
	run.ends(cli.ExitUnavailable, "the application was ended", "asking the ledger")
	if got := r.decrypt(run.reference("partial"))["before"]; got != "before\n" {
		t.Errorf("the output has %q", got)
	}
	if last := r.last(); last.Complete || !strings.Contains(last.Detail, "asking the ledger") {
		t.Errorf("recorded as %+v", last)
	}
}
