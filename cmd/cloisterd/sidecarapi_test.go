package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
)

// asks is a program that makes a call of the governance sidecar's and ends well if
// it is answered with the status and words in the answer; status 0 is no answer.
const asks = `import sys, urllib.request, urllib.error
method, path, body, status, words = sys.argv[1:]
if body == "LARGE":
    body = '{"x":"' + "x" * (1 << 20) + '"}'
try:
    answer = urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8300" + path, data=body.encode(), method=method))
except urllib.error.HTTPError as e:
    answer = e
except OSError as e:
    print(e, file=sys.stderr)
    sys.exit(status != "0")
said = answer.read().decode()
print(answer.status, said, file=sys.stderr)
sys.exit(str(answer.status) != status or words not in said)
`

// call has the application make a call.
func (r *process) call(method, path, body string, status int, words string) {
	r.t.Helper()
	must(r.t, os.WriteFile(filepath.Join(filepath.Dir(r.piped("told")), "call.py"), []byte(asks), 0o644))
	line := "/usr/bin/python3 " + private + "/call.py"
	for _, arg := range []string{method, path, body, fmt.Sprint(status), words} {
		line += " '" + arg + "'"
	}
	r.do(line)
}

// TestGovernanceSidecarsCalls: an application that the specification offers them
// asks for consent and puts an event into the record; what has no consent is
// refused, and what is hostile bounded.
func TestGovernanceSidecarsCalls(t *testing.T) {
	t.Parallel()
	r := newRoomWith(t, os.Getuid(), func(r *cleanroom.Room) { r.Application = []string{"--governance-api", "8300"} })
	run := r.start()
	run.call("POST", "/consentcheck/execution", "", 200, `"enabled"`)
	run.call("POST", "/consentcheck/logging", "", 200, `"disabled"`)
	run.call("PUT", "/events?id=q1&scope=queries", `{"rows":7}`, 403, "EventRefused")
	for _, party := range []string{"hospital", "analyst"} {
		r.cloister(r.By(party, "consent", "grant", "--scope", "logging")...)
	}
	run.call("POST", "/consentcheck/logging", "", 200, `"enabled"`)
	run.call("PUT", "/events?id=q1&scope=queries", `{"rows":7}`, 200, "")
	run.call("PUT", "/events", "LARGE", 413, "EventTooLarge")
	run.call("PUT", "/events", "no JSON", 400, "InvalidEvent")
	run.call("POST", "/oauth/token", "", 404, "")
	run.call("GET", "/contracts", "", 404, "")
	run.tell("exit 0")
	run.ends(0)
	list := r.cloister("audit", "list", "--ledger", r.Path("ledger"), "--kind", "app-event")
	if strings.Count(list, "app-event") != 1 || !strings.Contains(list, `the application says of q1: {"rows":7}`) {
		t.Errorf("the record's events are\n%s", list)
	}
}

// TestGovernanceSidecarsCallsAreTheContractsChoice: not offered where it does not
// say so.
func TestGovernanceSidecarsCallsAreTheContractsChoice(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	run := r.start()
	run.call("POST", "/consentcheck/execution", "", 0, "")
	run.tell("exit 0")
	run.ends(0)
}
