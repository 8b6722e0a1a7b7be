//go:build linux

package localcloud

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloister/internal/localcloud/identity"
)

// program stands for the runtime: it says how it was started, and does what a
// variable of the group says.
const program = `#!/bin/sh
echo "started in $PWD as $0: $*"
env
eval "$DO"
`

// groups is a cloud that runs container groups with program.
type groups struct {
	*Cloud
	t     *testing.T
	image string
}

func startGroups(t *testing.T) groups {
	t.Helper()
	dir := newDir(t)
	file := filepath.Join(dir, "program")
	if err := os.WriteFile(file, []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := Start(context.Background(), Config{Dir: filepath.Join(dir, "c"), Roles: true, Runtime: file})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return groups{c, t, fmt.Sprintf("cloisterd@sha256:%x", sha256.Sum256([]byte(program)))}
}

// form is a container group as `cloister deploy template` writes one.
func (g groups) form(do, restart string, command ...string) string {
	policy := "# a policy\npackage cloister_simulated\n\nsimulated := true\n\nprocess := {\"command\": [\"cloisterd\", \"run\", \"--a\", \"$b c\"]}\n"
	if command == nil {
		command = []string{"cloisterd", "run", "--a", "$b c"}
	}
	text, err := json.Marshal(map[string]any{"location": "simulated", "properties": map[string]any{
		"sku": "Confidential", "restartPolicy": restart, "confidentialComputeProperties": map[string]any{"ccePolicy": base64.StdEncoding.EncodeToString([]byte(policy))},
		"containers": []any{map[string]any{"name": "score", "properties": map[string]any{"image": g.image, "command": command,
			"environmentVariables": []any{map[string]any{"name": "DO", "value": do}}}}},
	}})
	if err != nil {
		g.t.Fatal(err)
	}
	return string(text)
}

func (g groups) url(name, rest string) string {
	return g.Endpoints().Manager + group + "/providers/Microsoft.ContainerInstance/containerGroups/" + name + rest + "?api-version=2023-05-01"
}

func (g groups) want(method, url, body string, status int, text string) string {
	g.t.Helper()
	return want(g.t, g.Cloud, identity.Owner, management, method, url, body, status, text)
}

// until waits for a group to show a text, and returns what it shows.
func (g groups) until(name, text string) string {
	g.t.Helper()
	for {
		status, shown := ask(g.t, g.Cloud, identity.Owner, management, "GET", g.url(name, ""), "")
		if status == 200 && strings.Contains(shown, text) {
			return shown
		}
		select {
		case <-g.t.Context().Done():
			g.t.Fatalf("%s never shows %q: %d %s", name, text, status, shown)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// log waits until the group has said a text, and returns the rest of that line.
func (g groups) log(name, text string) string {
	g.t.Helper()
	for {
		answer := g.want("GET", g.url(name, "/containers/score/logs"), "", 200, "content")
		var log struct{ Content string }
		if err := json.Unmarshal([]byte(answer), &log); err != nil {
			g.t.Fatal(err)
		}
		for line := range strings.Lines(log.Content) {
			if rest, found := strings.CutPrefix(line, text); found && strings.HasSuffix(line, "\n") {
				return strings.TrimSpace(rest)
			}
		}
		select {
		case <-g.t.Context().Done():
			g.t.Fatalf("%s never says %q: %q", name, text, log.Content)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// A group's runtime is started with its command line, its variables and those of
// the platform, in a guest under its policy; its end and its exit code show.
func TestGroupsRun(t *testing.T) {
	g := startGroups(t)
	body := g.form("read -r line < sev-guest.sock || test -S sev-guest.sock && echo guest here; exit 3", "Never")
	g.want("PUT", g.url("room", ""), body, 201, `"provisioningState":"Succeeded"`)
	line := g.log("room", "started in ")
	dir, line, _ := strings.Cut(line, " as ")
	want := " run --a $b c --platform simulated:" + dir + " --allow-swap --status /dev/shm/cloisterd-" + filepath.Base(dir) + ".sock"
	if _, args, _ := strings.Cut(line, ":"); args != want {
		t.Errorf("started with %q, want %q", args, want)
	}
	g.log("room", "guest here")
	g.log("room", "IDENTITY_ENDPOINT="+g.Endpoints().IdentityEndpoint)
	g.log("room", "HOSTNAME=room")
	shown := g.until("room", `"state":"Failed"`)
	for _, text := range []string{`"exitCode":3`, `"state":"Terminated"`, `"detailStatus":"Error"`, `"restartCount":0`} {
		if !strings.Contains(shown, text) {
			t.Errorf("%s is not in %s", text, shown)
		}
	}
	if answer := g.want("GET", g.url("room", "/containers/score/logs"), "", 200, ""); strings.Contains(answer, ManagerVariable) {
		t.Error("a group is told where it is managed")
	}
	// The same again is the same, and starts nothing.
	g.want("PUT", g.url("room", ""), body, 200, `"exitCode":3`)
	g.want("PUT", g.url("room", ""), g.form("exit 4", "Never"), 400, "delete it first")
	g.want("DELETE", g.url("room", ""), "", 200, "")
	g.want("DELETE", g.url("room", ""), "", 204, "")
	g.want("GET", g.url("room", ""), "", 404, "ResourceNotFound")
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the group's directory is left: %v", err)
	}
	g.want("PUT", g.url("room", ""), g.form("exit 0", "Never"), 201, "")
	g.until("room", `"state":"Succeeded"`)
}

// To delete a group ends its runtime in order, and what that leaves.
func TestGroupsEnd(t *testing.T) {
	g := startGroups(t)
	g.want("PUT", g.url("room", ""), g.form("sleep 1000 & echo child is $!; trap 'echo asked to end; exit 0' TERM; while :; do sleep 0.05; done", "Always"), 201, `"state":"Running"`)
	child, err := strconv.Atoi(g.log("room", "child is "))
	if err != nil {
		t.Fatal(err)
	}
	g.want("DELETE", g.url("room", ""), "", 200, "")
	if err := syscall.Kill(child, 0); err != syscall.ESRCH && !zombie(child) {
		t.Errorf("the runtime's child is left: %v", err)
	}
	// So does the cloud's own end, and stopping.
	g.want("PUT", g.url("room", ""), g.form("echo again $$; exec sleep 1000", "Never"), 201, "")
	g.log("room", "again ")
	g.want("POST", g.url("room", "/stop"), "", 204, "")
	g.until("room", `"state":"Stopped"`)
	g.want("POST", g.url("room", "/start"), "", 204, "")
	g.until("room", `"state":"Running"`)
	last, err := strconv.Atoi(g.log("room", "again "))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(last, 0); err != syscall.ESRCH {
		t.Errorf("the runtime is left: %v", err)
	}
}

// zombie tells whether a process has ended and was not reaped yet.
func zombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return os.IsNotExist(err) || strings.Contains(string(text), ") Z ")
}

// What the platform's enforcer would not start is not started here.
func TestGroupsRefused(t *testing.T) {
	g := startGroups(t)
	good := g.form("exit 0", "Never")
	for name, tc := range map[string]struct{ body, text string }{
		"command":    {g.form("exit 0", "Never", "cloisterd", "run", "--a", "other"), "PolicyDenied"},
		"image":      {strings.Replace(good, "cloisterd@sha256:", "cloisterd@sha256:0", 1), "InaccessibleImage"},
		"policy":     {strings.Replace(good, `"ccePolicy":"`, `"ccePolicy":"AAAA`, 1), "InvalidCcePolicy"},
		"no policy":  {strings.Replace(good, `"ccePolicy":"`, `"other":"`, 1), "sku Confidential, with a policy"},
		"no base64":  {strings.Replace(good, `"ccePolicy":"`, `"ccePolicy":"%`, 1), "a policy in base64"},
		"sku":        {strings.Replace(good, "Confidential\"", "Standard\"", 1), "sku Confidential"},
		"no command": {strings.Replace(good, `"command":`, `"commands":`, 1), "has no command"},
		"types":      {strings.Replace(good, `"Never"`, `7`, 1), "cannot unmarshal"},
	} {
		g.want("PUT", g.url("room", ""), tc.body, 400, tc.text)
		if status, _ := ask(t, g.Cloud, identity.Owner, management, "GET", g.url("room", ""), ""); status != 404 {
			t.Errorf("%s: a refused group is there", name)
		}
	}
	if _, err := Start(context.Background(), Config{Dir: newDir(t), Runtime: "/no/such/cloisterd"}); err == nil || !strings.Contains(err.Error(), "the runtime for container groups") {
		t.Errorf("without a runtime: %v", err)
	}
}

// A group has only the identities that its maker may give away.
func TestGroupsIdentities(t *testing.T) {
	g := startGroups(t)
	maker, err := g.AddIdentity("maker")
	if err != nil {
		t.Fatal(err)
	}
	room := group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/room-9"
	body := strings.Replace(g.form("exit 0", "Never"), `{"location"`, `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"`+room+`":{}}},"location"`, 1)
	put := func(status int, text string) {
		t.Helper()
		want(t, g.Cloud, "maker", management, "PUT", g.url("room", ""), body, status, text)
	}
	give := func(name, scope, role string) {
		t.Helper()
		url, assigned := assignment(g.Cloud, scope, name, role, maker.ObjectID)
		g.want("PUT", url, assigned, 201, "")
	}
	put(403, "perform action 'Microsoft.ContainerInstance/containerGroups/write'")
	give("11111111-0000-4000-8000-000000000011", group, "5d977122-f97e-4b4d-a52f-6b43003ddb4d")
	put(400, "The identity '"+room+"' was not found")
	g.want("PUT", g.Endpoints().Manager+room+"?api-version=2023-01-31", `{"location":"simulated"}`, 201, "")
	put(403, "action(s) 'Microsoft.ManagedIdentity/userAssignedIdentities/assign/action' on the linked scope(s) '"+room+"'")
	give("11111111-0000-4000-8000-000000000012", room, "f1a07417-d97a-45cb-824c-7a7467783830")
	put(201, room)
}

// Without a runtime groups are kept, and say that nothing runs.
func TestGroupsSayThatNothingRuns(t *testing.T) {
	c := startWithRoles(t, "")
	g := groups{c, t, "i"}
	g.want("PUT", g.url("room", ""), g.form("", "Never"), 201, "The simulated cloud runs nothing")
	g.want("GET", g.url("room", ""), "", 200, `"state":"Pending"`)
}
