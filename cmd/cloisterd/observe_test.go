package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"cloister/internal/cli"
	"cloister/internal/fault"
)

// statusOf is a socket for a test's runtime, where the application has another
// directory.
func (r *site) statusOf() string {
	socket := "/dev/shm/" + filepath.Base(r.Dir) + ".sock"
	r.t.Cleanup(func() { _ = os.Remove(socket) })
	return socket
}

// TestStatus: who runs the machine is told how far the run has come; the
// application has no name for the socket, and another user no answer.
func TestStatus(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	socket := r.statusOf()
	run := r.start("--status", socket)
	run.do("cat $IN/private/secret.txt > $OUT/copy && sync $OUT/copy")
	out, err := r.Command("cloisterd", "status", "--json", "--status", socket).Output()
	must(t, err)
	var s status
	must(t, json.Unmarshal(out, &s))
	var steps []string
	for i, st := range s.Steps {
		steps = append(steps, st.Name)
		if i > 0 && st.Seconds < s.Steps[i-1].Seconds {
			t.Errorf("%s was reached before %s", st.Name, s.Steps[i-1].Name)
		}
	}
	want := []string{"specification read", "run begins", "consent", "wrapped-dek source", "wrapped-dek report", "kek source", "kek report",
		"consent", "consent", "data source", "data report", "mounted source", "mounted report", "consent", "execution", "application starts"}
	if !slices.Equal(steps, want) {
		t.Errorf("the steps are %q", steps)
	}
	if len(s.Run) != 32 || s.Contract != "source-report" || s.Starts != 1 || s.Consent != 4 || s.Audit != 7 || len(s.Volumes) != 2 {
		t.Errorf("the status is %+v", s)
	}
	report, source := s.Volumes[0], s.Volumes[1]
	if !report.Writable || report.Written != 20 || report.Sequence < 2 || report.Requests < 3 || source.Writable || source.Reads < 1 || source.ReadBytes != 20 || source.Requests < 1 || source.Errors != 0 {
		t.Errorf("the volumes are %+v", s.Volumes)
	}
	words, err := r.Command("cloisterd", "status", "--status", socket).Output()
	if err != nil || !strings.Contains(string(words), "s  application starts\n") || strings.Contains(string(words), "secret") {
		t.Errorf("in words it is %s, %v", words, err)
	}
	run.do("test ! -e " + socket)
	run.tell("exit 0")
	run.ends(0)
	if _, err := askStatus(socket); fault.KindOf(err) != fault.NotFound {
		t.Errorf("after the run: %v", err)
	}
	for _, socket := range []string{"/tmp/status.sock", "/dev/../tmp/status.sock", "status.sock", "/device"} {
		if _, err := newMonitor().serveStatus(socket, nil); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", socket, err)
		}
	}
}

// collector is where traces go.
type collector struct {
	mu   sync.Mutex // guards got
	got  []string
	http *httptest.Server
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	c.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.got = append(c.got, r.URL.Path+" "+string(b))
	}))
	t.Cleanup(c.http.Close)
	return c
}

func (c *collector) traces() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// TestObserved: without consent to telemetry and logging there are no metrics and
// no trace, and what the application says goes nowhere; with it there are, until it
// is withdrawn. No name of a file is in any of it, nor what is in files.
func TestObserved(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	c := newCollector(t)
	socket := r.statusOf()
	args := []string{"--status", socket, "--metrics", "127.0.0.1:0", "--traces", c.http.URL + "/v1/traces", "--log-format", "json", "--log-level", "debug", "--consent-interval", "50ms"}
	work := func(run *process) {
		run.do("echo out loud; echo to the side >&2")
		run.do("cat $IN/private/secret.txt > $OUT/result-of-today && sync $OUT/result-of-today && mv $OUT/result-of-today $OUT/renamed-by-me; ! cat $IN/never-there 2> /dev/null")
	}
	run := r.start(args...)
	work(run)
	run.tell("exit 0")
	run.ends(0)
	quiet := run.stderr.String()
	for _, said := range []string{"out loud", "to the side", "metrics are served"} {
		if strings.Contains(quiet, said) {
			t.Errorf("without consent the log has %q", said)
		}
	}
	if got := c.traces(); len(got) > 0 {
		t.Errorf("without consent there are traces %q", got)
	}

	for _, party := range []string{"hospital", "analyst"} {
		r.cloister(r.By(party, "consent", "grant", "--scope", "logging", "--scope", "telemetry")...)
	}
	run = r.start(args...)
	work(run)
	until(t, "what the application says is logged", func() bool { return strings.Contains(run.stderr.String(), `"text":"to the side\n"`) })
	if !strings.Contains(run.stderr.String(), `"stream":"stdout","text":"out loud\n"`) {
		t.Errorf("the log is %s", &run.stderr)
	}
	address := run.logged("metrics are served", "address")
	answer, err := http.Get("http://" + address + "/metrics")
	must(t, err)
	metrics, err := io.ReadAll(answer.Body)
	must(t, err)
	for _, line := range []string{"cloister_reads_total{volume=\"source\"} ", "cloister_read_bytes_total{volume=\"source\"} 20\n", "cloister_written_bytes_total{volume=\"report\"} 20\n",
		"cloister_store_errors_total{volume=\"report\"} 0\n", "cloister_store_request_seconds_count{volume=\"source\"} ", "cloister_ledger_request_seconds_count{kind=\"audit\"} 7\n", "cloister_application_starts_total 1\n",
		"cloister_read_seconds_bucket{volume=\"source\",le=\"5e-05\"} ", "cloister_read_seconds_count{volume=\"source\"} ", "cloister_ledger_append_seconds_count{run="} {
		if !strings.Contains(string(metrics), "\n"+line) {
			t.Errorf("%q is not in the metrics: %s", line, metrics)
		}
	}
	run.tell("exit 0")
	run.ends(0)
	loud := run.stderr.String()
	traces := c.traces()
	if len(traces) != 1 || !strings.HasPrefix(traces[0], "/v1/traces ") || strings.Count(traces[0], `"spanId"`) < 15 || !strings.Contains(traces[0], `"name":"mounted source"`) {
		t.Errorf("the traces are %q", traces)
	}
	for where, text := range map[string]string{"the log": quiet, "the log, with consent": loud, "the metrics": string(metrics), "the trace": strings.Join(traces, "\n")} {
		for _, name := range []string{"secret.txt", "private", "result-of-today", "renamed-by-me", "never-there", "for the owner alone"} {
			if strings.Contains(text, name) {
				t.Errorf("%q is in %s", name, where)
			}
		}
	}

	// Withdrawn, it ends while the application goes on.
	run = r.start(args...)
	address = run.logged("metrics are served", "address")
	r.cloister(r.By("hospital", "consent", "withdraw", "--scope", "logging", "--scope", "telemetry")...)
	until(t, "metrics are not served any more", func() bool {
		answer, err := http.Get("http://" + address + "/metrics")
		if err == nil {
			answer.Body.Close()
		}
		return err != nil
	})
	until(t, "logging is known to be withdrawn", func() bool { return strings.Contains(run.stderr.String(), `"scope":"logging"`) })
	run.do("echo too late")
	run.tell("exit 0")
	run.ends(0)
	if strings.Contains(run.stderr.String(), "too late") || len(c.traces()) != 1 {
		t.Errorf("after the withdrawal there are %d traces, and the log is %s", len(c.traces()), &run.stderr)
	}
	r.checkNothingLeft()
}

// logged waits for a line of a JSON log and returns one of its values.
func (r *process) logged(message, key string) (value string) {
	r.t.Helper()
	until(r.t, message, func() bool {
		for line := range strings.Lines(r.stderr.String()) {
			var said map[string]any
			if json.Unmarshal([]byte(line), &said) == nil && said["msg"] == message {
				value, _ = said[key].(string)
			}
		}
		return value != ""
	})
	return value
}

// TestObserveRefuses: what others could reach, or is nonsense, is not begun with.
func TestObserveRefuses(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	for _, tc := range []struct{ flag, value, said string }{
		{"--metrics", "0.0.0.0:9464", "is not on this machine alone"},
		{"--metrics", "localhost:9464", "is not on this machine alone"},
		{"--traces", "collector:4318", "is no URL"},
		{"--log-level", "loud", "--log-level"},
		{"--log-format", "xml", "--log-format"},
		{"--status", "/run/cloisterd.sock", "the application could reach it"},
	} {
		r.launch(tc.flag, tc.value).ends(cli.ExitUsage, tc.said, "hint: ")
	}
}
