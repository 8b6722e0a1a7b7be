package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
	"cloister/internal/cli"
)

// freePort returns a TCP port on which nothing listens now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// called is a room whose application serves at the endpoints web (WebSockets too)
// and grpc.
type called struct {
	*process
	web, grpc string // addresses
}

func newCalled(t *testing.T) called { return newCalledUnder(t, "") }

// newCalledUnder has a policy judge what passes at the endpoint web.
func newCalledUnder(t *testing.T, policy string, args ...string) called {
	t.Helper()
	c := called{web: freePort(t), grpc: freePort(t)}
	r := newRoomWith(t, os.Getuid(), func(r *cleanroom.Room) {
		buildProgram(t, r, "server")
		r.Ports = [][]string{{"--name", "web", "--port", c.web, "--application-port", "8080", "--protocol", "websocket"},
			{"--name", "grpc", "--port", c.grpc, "--application-port", "8081", "--protocol", "grpc"}}
		if policy != "" {
			must(t, os.WriteFile(r.Path("web.rego"), []byte(policy), 0o644))
			r.Ports[0] = append(r.Ports[0], "--policy", r.Path("web.rego"))
		}
	})
	c.process = r.start(args...)
	c.web, c.grpc = "127.0.0.1:"+c.web, "127.0.0.1:"+c.grpc
	return c
}

// buildProgram puts one of testdata's into the application's input.
func buildProgram(t *testing.T, r *cleanroom.Room, name string) {
	t.Helper()
	must(t, os.MkdirAll(r.Path("data"), 0o755))
	build := exec.Command("go", "build", "-o", r.Path("data", name), "./testdata/"+name)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the %s: %v\n%s", name, err, out)
	}
}

// serve has the application listen, and waits until it is reached.
func (c called) serve() {
	c.t.Helper()
	c.do("$IN/server 8080 & $IN/server grpc 8081 &")
	until(c.t, "the application listens", func() bool {
		_, err := c.Cloister(c.callArgs("call", "https://"+c.web+"/say")...)
		return err == nil
	})
}

func (c called) callArgs(args ...string) []string {
	return append(c.By("analyst", args...), "--platform", "simulated:"+c.Path("guest"))
}

// proxy gives the endpoint a plain port here, until end is called.
func (c called) proxy(address string) (plain string, end func()) {
	c.t.Helper()
	return c.proxyOf("analyst", address)
}

func (c called) proxyOf(party, address string) (plain string, end func()) {
	c.t.Helper()
	cmd := c.Command("cloister", append(c.By(party, "proxy", address), "--platform", "simulated:"+c.Path("guest"))...)
	cmd.Stderr = &c.stderr
	out, err := cmd.StdoutPipe()
	must(c.t, err)
	must(c.t, cmd.Start())
	end = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	c.t.Cleanup(end)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		c.t.Fatalf("the proxy is not ready: %v; %s", err, &c.stderr)
	}
	return strings.TrimPrefix(strings.TrimSpace(line), "ready http://"), end
}

// TestCalled: clients of an application in its namespaces, by cloister call, by
// curl, WebSockets and gRPC through cloister proxy; and what they find at the end.
func TestCalled(t *testing.T) {
	t.Parallel()
	c := newCalled(t)
	if out, err := c.Cloister(c.callArgs("call", "https://"+c.web+"/say")...); exitOf(err) != cli.ExitUnavailable || !strings.Contains(fmt.Sprint(out, err), "503") {
		t.Errorf("before the application listens: %q, %v", out, err)
	}
	c.serve()

	body := c.Path("body")
	must(t, os.WriteFile(body, []byte("sent"), 0o600))
	if got := c.cloister(c.callArgs("call", "-H", "X-Test: tried", "--data", body, "https://"+c.web+"/say?a=b")...); got != `POST /say?a=b tried "sent"` {
		t.Errorf("cloister call: %q", got)
	}
	c.cloister(c.callArgs("call", "--out", c.Path("answer"), "https://"+c.web+"/read")...)
	if got, _ := os.ReadFile(c.Path("answer")); string(got) != "for the owner alone\n" {
		t.Errorf("the answer's file has %q", got)
	}
	if _, err := c.Cloister(c.callArgs("call", "https://"+c.web+"/nothing")...); exitOf(err) != cli.ExitNotFound {
		t.Errorf("what is not there: %v", err)
	}

	web, endWeb := c.proxy(c.web)
	curl, err := exec.Command("curl", "-sS", "-X", "PUT", "-d", "curled", "http://"+web+"/say").CombinedOutput()
	if err != nil || string(curl) != `PUT /say  "curled"` {
		t.Errorf("curl: %q, %v", curl, err)
	}
	socket(t, web)
	endWeb()
	grpc, endGRPC := c.proxy(c.grpc)
	calls(t, grpc, plain)
	endGRPC()
	calls(t, c.grpc, itself)

	c.tell("exit 0")
	c.ends(0)
	if _, err := net.Dial("tcp", c.web); err == nil {
		t.Error("the endpoint is open after the end")
	}
	c.checkNothingLeft()
}

func exitOf(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// TestCallRefuses: a room that is not what the caller's ledger says is sent
// nothing, and the reasons are said.
func TestCallRefuses(t *testing.T) {
	t.Parallel()
	c := newCalled(t)
	c.serve()
	asked := func(why string, args ...string) {
		t.Helper()
		_, err := c.Cloister(append(c.By("analyst", "call", "https://"+c.web+"/say"), args...)...)
		if exitOf(err) != cli.ExitRefused || !strings.Contains(fmt.Sprint(err), why) {
			t.Errorf("%q: %v, want a refusal that says %q", args, err, why)
		}
	}
	asked("signature: expected a chain to AMD")
	asked("run: expected 00", "--run", "00", "--platform", "simulated:"+c.Path("guest"))
	asked("UVM SVN: expected at least 999", "--min-svn", "999", "--platform", "simulated:"+c.Path("guest"))

	// The parties agree on a new version: the run that goes on is the old one's.
	spec := c.Path("specification.yaml")
	c.cloister("spec", "add", "endpoint", "--name", "more", "--port", freePort(t), "--application-port", "8082", spec)
	c.cloister(c.By("analyst", "contract", "amend", "--specification", spec)...)
	_, err := c.Cloister(c.callArgs("call", "https://"+c.web+"/say")...)
	if exitOf(err) != cli.ExitConflict {
		t.Errorf("a contract that is not accepted: %v", err)
	}
	for _, party := range []string{"hospital", "analyst"} {
		c.cloister(c.By(party, "contract", "approve", "--specification", spec)...)
	}
	asked("contract: expected", "--platform", "simulated:"+c.Path("guest"))
	c.tell("exit 0")
	c.wait()
}

// guard lets short answers out, to short questions at one path.
const guard = `package guard

allow if {
	input.phase == "request"
	input.request.path == "/say"
	input.request.size < 100
}

allow if {
	input.phase == "response"
	input.response.status == 200
	input.response.size >= 0
	input.response.size < 50
}

reason := "only short answers" if input.phase == "response"
`

// TestEndpointPolicy: the contract's Rego policy is asked of each request and
// response, by the engine that is another process.
func TestEndpointPolicy(t *testing.T) {
	t.Parallel()
	c := newCalledUnder(t, guard)
	c.serve()
	long := c.Path("long")
	must(t, os.WriteFile(long, bytes.Repeat([]byte("x"), 60), 0o600))
	for why, args := range map[string][]string{
		"does not let this request through":                      {"call", "https://" + c.web + "/read"},
		"does not let this response through: only short answers": {"call", "--data", long, "https://" + c.web + "/say"},
	} {
		out, err := c.Cloister(c.callArgs(args...)...)
		if exitOf(err) != cli.ExitDenied || !strings.Contains(out, why) {
			t.Errorf("%q: %q, %v", args, out, err)
		}
	}
	if got := c.cloister(c.callArgs("call", "https://"+c.web+"/say")...); got != `GET /say  ""` {
		t.Errorf("what the policy lets through: %q", got)
	}
	c.tell("exit 0")
	c.ends(0)
	// The record has what was refused, counted, and no word of it.
	log := c.cloister("audit", "list", "--kind", "ingress", "--ledger", c.Path("ledger"))
	verified := c.cloister("audit", "verify", "--ledger", c.Path("ledger"))
	for _, want := range []string{"refused-by-policy at web, 1 times", "kept-by-policy at web, 1 times"} {
		if !strings.Contains(log, want) || !strings.Contains(verified, want) {
			t.Errorf("%q is not in the record: %s\nnor in what verifies it: %s", want, log, verified)
		}
	}
	if strings.Contains(log, "127.0.0.1") || strings.Contains(log, "/read") {
		t.Errorf("the record names who asked, or for what: %s", log)
	}
}

// TestEndpointsWithoutConsent: consent withdrawn closes the endpoints before the
// application has ended, which here takes as long as it may.
func TestEndpointsWithoutConsent(t *testing.T) {
	t.Parallel()
	c := newCalledUnder(t, "", "--consent-interval", "100ms", "--grace", "20s")
	c.serve()
	web, end := c.proxy(c.web)
	defer end()
	held, err := net.Dial("tcp", web)
	must(t, err)
	defer held.Close()
	fmt.Fprint(held, "GET /say HTTP/1.1\r\nHost: room\r\n\r\n")
	b := bufio.NewReader(held)
	resp, err := http.ReadResponse(b, nil)
	must(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	must(t, err)

	c.do("trap '' TERM")
	c.cloister(c.By("hospital", "consent", "withdraw")...)
	if _, err := b.ReadByte(); err == nil {
		t.Error("a connection goes on without consent")
	}
	until(t, "the endpoint is closed", func() bool {
		conn, err := net.Dial("tcp", c.web)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	select {
	case <-c.ended:
		t.Error("the runtime has ended, so the test shows nothing")
	default:
	}
	c.ends(cli.ExitRefused)
	end()
}

// TestEndpointTaken: a port that another has ends the run before a key is asked
// for.
func TestEndpointTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	r := newRoomWith(t, os.Getuid(), func(r *cleanroom.Room) { r.Ports = [][]string{{"--name", "web", "--port", port}} })
	run := r.launch()
	run.ends(cli.ExitUnavailable, "opening endpoint web", "take another port in the specification")
	asked, err := os.ReadFile(filepath.Join(r.Dir, "cloud", "requests.jsonl"))
	if err != nil || bytes.Contains(asked, []byte("/attest/SevSnpVm")) {
		t.Errorf("the machine was attested, or it is not known: %v", err)
	}
}
