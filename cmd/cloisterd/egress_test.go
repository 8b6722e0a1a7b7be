package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"cloister/internal/cleanroom"
	"cloister/internal/cli"
)

// clients are the application's, in its input.
func clients(t *testing.T, c *cleanroom.Room) {
	t.Helper()
	must(t, os.MkdirAll(c.Path("data"), 0o755))
	must(t, os.WriteFile(c.Path("data", "fetch.py"), []byte(`import sys, urllib.request, urllib.error
url, status, body = sys.argv[1:]
try: r = urllib.request.urlopen(url, timeout=30)
except urllib.error.HTTPError as e: r = e
b = r.read().decode()
if r.status != int(status) or body not in b: sys.exit(f"{url}: {r.status} {b}")
`), 0o644))
	must(t, os.WriteFile(c.Path("data", "around.py"), []byte(`import socket, sys
outside = (sys.argv[1], int(sys.argv[2]))
for family, kind, to in (
    (socket.AF_INET, socket.SOCK_STREAM, outside), (socket.AF_INET, socket.SOCK_STREAM, ("192.0.2.1", 80)),
    (socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 53)), (socket.AF_INET6, socket.SOCK_STREAM, ("2001:db8::1", 80)),
    (socket.AF_INET6, socket.SOCK_DGRAM, ("2001:db8::1", 53)), (socket.AF_INET, socket.SOCK_RAW, ("192.0.2.1", 0)),
    (socket.AF_INET6, socket.SOCK_RAW, ("2001:db8::1", 0)), (socket.AF_PACKET, socket.SOCK_RAW, ("lo", 0)), (socket.AF_VSOCK, socket.SOCK_STREAM, (2, 80))):
    try: socket.socket(family, kind).connect(to)
    except OSError: continue
    sys.exit(f"it reached {to} by {kind!r}")
try: socket.getaddrinfo("example.com", 80)
except OSError: sys.exit(0)
sys.exit("somebody resolves names")
`), 0o644))
}

// fetch is a line that gets a URL as a client does that is told of the proxy by
// its environment, and compares status and body.
func fetch(url string, status int, body string) string {
	return fmt.Sprintf("python3 $IN/fetch.py %s %d '%s'", url, status, body)
}

// outsideServer stands for what the contract lets out to: the simulated platform
// may list an address of loopback. It says what it was asked for.
func outsideServer(t *testing.T) (address string, asked func() []string) {
	t.Helper()
	var mu sync.Mutex
	var paths []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		paths = append(paths, r.URL.Path)
		mu.Unlock()
		fmt.Fprint(w, "from outside")
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), func() []string { mu.Lock(); defer mu.Unlock(); return paths }
}

// withProxy has clients ask the proxy for loopback too.
var withProxy = []string{"--env", "NO_PROXY=none.example", "--env", "no_proxy=none.example"}

// TestEgressList: the application reaches what the contract lists and nothing
// else, by no protocol, and the record says what it reached. Under a runtime that
// is root and one that is not.
func TestEgressList(t *testing.T) {
	for name, uid := range users() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listed, asked := outsideServer(t)
			other, neverAsked := outsideServer(t)
			r := newRoomWith(t, uid, func(c *cleanroom.Room) {
				clients(t, c)
				c.Application, c.Network = withProxy, []string{"--allow", listed, "list"}
			})
			run := r.start("--consent-interval", "1s")
			run.do(fetch("http://"+listed+"/data", 200, "from outside"))
			for _, refused := range []string{other, "169.254.169.254", "168.63.129.16", "localhost:" + strings.Split(listed, ":")[1], strings.TrimPrefix(strings.Split(r.Ledger, ",")[0], "https://")} {
				run.do(fetch("http://"+refused+"/", 403, "clean room"))
			}
			// Around the proxy there is nothing: no address, no name, no other protocol.
			run.do("python3 $IN/around.py " + strings.ReplaceAll(listed, ":", " "))
			run.tell("exit 0")
			run.ends(0)
			if paths := asked(); len(paths) != 1 || paths[0] != "/data" {
				t.Errorf("the listed host was asked for %q", paths)
			}
			if paths := neverAsked(); len(paths) > 0 {
				t.Errorf("another was asked for %q", paths)
			}
			log := r.cloister("audit", "list", "--ledger", r.Path("ledger"))
			for _, want := range []string{"allowed " + listed + ", 1 times", "not-listed, "} {
				if !strings.Contains(log, want) {
					t.Errorf("%q is not in the record: %s", want, log)
				}
			}
			if strings.Contains(log, "169.254") {
				t.Errorf("the record passes on what the application asked for: %s", log)
			}
		})
	}
}

const egressPolicy = `package egress
allow if { input.method == "GET"; startswith(input.path, "/public/") }
reason := "only what is public may be read" if not allow
`

// TestEgressPolicy: a policy in Rego, asked of its own process, judges each
// request. With another file than the parties pinned, or none, there is no run.
func TestEgressPolicy(t *testing.T) {
	for name, uid := range users() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outside, asked := outsideServer(t)
			policy := strings.Replace(egressPolicy, "allow if {", `allow if { input.host == "127.0.0.1"; `, 1)
			r := newRoomWith(t, uid, func(c *cleanroom.Room) {
				must(t, os.WriteFile(c.Path("egress.rego"), []byte(policy), 0o644))
				clients(t, c)
				c.Application, c.Network = withProxy, []string{"--policy", c.Path("egress.rego"), "policy"}
			})
			other := r.Path("elsewhere")
			must(t, os.Mkdir(other, 0o755))
			must(t, os.WriteFile(filepath.Join(other, "egress.rego"), []byte("package egress\nallow := true\n"), 0o644))
			r.launch("--policies", other).ends(cli.ExitRefused, "the specification pins")
			must(t, os.Remove(filepath.Join(other, "egress.rego")))
			r.launch("--policies", other).ends(cli.ExitNotFound, "egress.rego")
			run := r.start()
			run.do(fetch("http://"+outside+"/private", 403, "only what is public"))
			// The policy lets it out, and it is the machine's own address: nothing lists it.
			run.do(fetch("http://"+outside+"/public/x", 403, "own or its platform"))
			run.tell("exit 0")
			run.ends(0)
			if paths := asked(); len(paths) > 0 {
				t.Errorf("loopback was reached: %q", paths)
			}
			log := r.cloister("audit", "list", "--ledger", r.Path("ledger"))
			if !strings.Contains(log, "refused-by-policy, 1 times") {
				t.Errorf("the refusal is not in the record: %s", log)
			}
		})
	}
}

// TestEgressUnrecorded: where the ledger is away nothing is reached, and the run
// ends.
func TestEgressUnrecorded(t *testing.T) {
	t.Parallel()
	listed, asked := outsideServer(t)
	r := newRoomWith(t, os.Getuid(), func(c *cleanroom.Room) {
		clients(t, c)
		c.Application, c.Network = withProxy, []string{"--allow", listed, "list"}
	})
	run := r.start("--consent-interval", "1h")
	_ = r.StopLast(syscall.SIGKILL)
	run.do(fetch("http://"+listed+"/data", 503, "could not be recorded"))
	if paths := asked(); len(paths) > 0 {
		t.Errorf("reached without a record: %q", paths)
	}
	run.tell("exit 0")
	run.ends(cli.ExitUnavailable)
}
