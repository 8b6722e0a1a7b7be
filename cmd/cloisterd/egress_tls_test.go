package main

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"cloister/internal/cleanroom"
)

// secureServer is outsideServer over TLS, and the certificate by which it is
// verified.
func secureServer(t *testing.T) (address string, certificate []byte, asked func() []string) {
	t.Helper()
	var mu sync.Mutex
	var paths []string
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		paths = append(paths, r.Method+" "+r.URL.Path)
		mu.Unlock()
		fmt.Fprint(w, "from outside")
	}))
	t.Cleanup(s.Close)
	certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return s.Listener.Addr().String(), certificate, func() []string { mu.Lock(); defer mu.Unlock(); return paths }
}

// TestEgressTLS: an application reaches what the contract lists over TLS as its
// clients do, by a tunnel through the proxy, and nothing else. In the secure mode
// the runtime verifies the server, by the certificates that its machine trusts, and
// the application the runtime; in the open one bytes pass, and the application
// verifies the server itself.
func TestEgressTLS(t *testing.T) {
	for _, mode := range []string{"secure", "open"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			listed, certificate, asked := secureServer(t)
			other, _, neverAsked := secureServer(t)
			r := newRoomWith(t, os.Getuid(), func(c *cleanroom.Room) {
				clients(t, c)
				must(t, os.WriteFile(c.Path("data", "server.pem"), certificate, 0o644))
				c.Application, c.Network = withProxy, []string{"--proxy", mode, "--allow", listed, "list"}
			})
			launch := func(trusted []byte) *process {
				cmd, err := r.Runtime("guest", "--consent-interval", "1s")
				must(t, err)
				cmd.Env = append(cmd.Env, trusting(t, r, trusted))
				run := r.watchCommand(cmd)
				if said := run.hear(); said != "up" {
					t.Fatalf("the application said %q", said)
				}
				return run
			}
			get := fetch("https://"+listed+"/data", 200, "from outside")
			as := ""
			if mode == "open" {
				as = "SSL_CERT_FILE=$IN/server.pem "
			}

			run := launch(certificate)
			run.do(as + get)
			run.do(`python3 $IN/fetch.py https://` + other + `/ 200 x 2>&1 | grep -q "403 Forbidden"`)
			run.do(`python3 $IN/fetch.py https://169.254.169.254/ 200 x 2>&1 | grep -q "403 Forbidden"`)
			run.tell("exit 0")
			run.ends(0)
			if paths := asked(); len(paths) != 1 || paths[0] != "GET /data" {
				t.Errorf("the listed host was asked for %q", paths)
			}

			// A server that nobody vouches for is reached by neither.
			run = launch(nil)
			if mode == "open" {
				run.do(`python3 $IN/fetch.py https://` + listed + `/ 200 x 2>&1 | grep -q "CERTIFICATE_VERIFY_FAILED"`)
			} else {
				run.do(fetch("https://"+listed+"/", 502, "its certificate is not trusted"))
			}
			run.tell("exit 0")
			run.ends(0)
			if paths := asked(); len(paths) != 1 {
				t.Errorf("unverified, the listed host was asked for %q", paths)
			}
			if paths := neverAsked(); len(paths) > 0 {
				t.Errorf("another was asked for %q", paths)
			}
			log := r.cloister("audit", "list", "--kind", "egress", "--ledger", r.Path("ledger"))
			for _, want := range []string{"allowed " + listed + ", 1 times", "not-listed, 2 times"} {
				if !strings.Contains(log, want) {
					t.Errorf("%q is not in the record: %s", want, log)
				}
			}
		})
	}
}

// trusting is the variable by which the runtime trusts a certificate beside what it
// trusts in the room.
func trusting(t *testing.T, r *site, certificate []byte) string {
	t.Helper()
	const name = "SSL_CERT_FILE"
	all := certificate
	for _, v := range r.Env {
		if file, ok := strings.CutPrefix(v, name+"="); ok {
			roots, err := os.ReadFile(file)
			must(t, err)
			all = append(roots, all...)
		}
	}
	must(t, os.WriteFile(r.Path("roots.pem"), all, 0o644))
	return name + "=" + r.Path("roots.pem")
}
