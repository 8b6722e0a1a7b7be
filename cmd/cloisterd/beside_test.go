package main

import (
	"net"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
	"cloister/internal/cli"
)

// The tests here are of the distributed model, with what an application does beyond
// reading and writing, in containers that share a network as those of a pod do.

// TestSidecarCalled: a party's call starts an application beside the shim, and
// clients reach it through the runtime, over attested TLS. In a network of its own
// nobody else does; in the pod's, which the parties agreed on, whoever is there does.
func TestSidecarCalled(t *testing.T) {
	for _, egress := range []string{"closed", "unguarded"} {
		t.Run(egress, func(t *testing.T) {
			t.Parallel()
			port, own := freePort(t), freePort(t)
			c := newPair(t, func(r *cleanroom.Room) {
				buildProgram(t, r, "server")
				r.Application, r.Network = []string{"--start", "manual"}, []string{egress}
				r.Ports = [][]string{{"--name", "web", "--port", port, "--application-port", own}}
			})
			confinement := c.confined()
			if egress == "unguarded" {
				confinement = c.profiled() // it needs no user namespace
			}
			sidecar, application := c.sidecar(), c.application(confinement...)
			sidecar.says("the run waits for a call")
			calls := called{process: sidecar, web: "127.0.0.1:" + port}
			c.cloister(calls.callArgs("job", "start", calls.web)...)
			if said := application.hear(); said != "up" {
				t.Fatalf("the application said %q", said)
			}
			if out, err := c.Cloister(calls.callArgs("call", "https://"+calls.web+"/say")...); exitOf(err) != cli.ExitUnavailable {
				t.Errorf("before the application listens: %q, %v", out, err)
			}
			application.do("$IN/server " + own + " &")
			until(t, "the application listens", func() bool {
				got, err := c.Cloister(calls.callArgs("call", "https://"+calls.web+"/read")...)
				return err == nil && got == "for the owner alone"
			})
			conn, err := net.Dial("tcp", "127.0.0.1:"+own)
			if err == nil {
				conn.Close()
			}
			if reached := err == nil; reached != (egress == "unguarded") {
				t.Errorf("with egress %s the application is reached from the pod's network: %t", egress, reached)
			}
			application.tell("exit 0")
			application.ends(0)
			sidecar.ends(0)
		})
	}
}

// TestSidecarEgress: beside the shim too, an application reaches what the contract
// lists, by the runtime's proxy, and nothing around it although its container shares
// the pod's network; the record says what it was.
func TestSidecarEgress(t *testing.T) {
	t.Parallel()
	listed, asked := outsideServer(t)
	other, neverAsked := outsideServer(t)
	c := newPair(t, func(r *cleanroom.Room) {
		buildProgram(t, r, "client")
		r.Network = []string{"--allow", listed, "list"}
	})
	sidecar, application := c.both(true)
	application.do("$IN/client get http://" + listed + "/data | grep -q '^200 from outside'")
	application.do("$IN/client get http://" + other + "/data | grep -q '^403 '")
	for _, around := range []string{"tcp " + listed, "tcp " + strings.TrimPrefix(strings.Split(c.Ledger, ",")[0], "https://"), "tcp 192.0.2.1:80", "udp 192.0.2.1:53", "tcp [2001:db8::1]:80"} {
		application.do("$IN/client reach " + around + "; test $? = 9")
	}
	application.do("$IN/client reach tcp 127.0.0.1:3128; test $? = 0") // the proxy, so that the above says something
	application.do("$IN/client resolve example.com; test $? = 9")
	application.do("grep -q 'BEGIN CERTIFICATE' $SSL_CERT_FILE && ! (echo >> $SSL_CERT_FILE)")
	application.tell("exit 0")
	application.ends(0)
	sidecar.ends(0)
	if paths := asked(); len(paths) != 1 || paths[0] != "/data" {
		t.Errorf("the listed host was asked for %q", paths)
	}
	if paths := neverAsked(); len(paths) > 0 {
		t.Errorf("another was asked for %q", paths)
	}
	log := c.cloister("audit", "list", "--ledger", c.Path("ledger"))
	for _, want := range []string{"allowed " + listed + ", 1 times", "not-listed, "} {
		if !strings.Contains(log, want) {
			t.Errorf("%q is not in the record: %s", want, log)
		}
	}
}

// TestSidecarRestart: an application beside the shim starts again as the
// specification says, each start consented to and recorded, with nothing left of the
// one before; and what it prints goes to the runtime's log where the parties consent
// to logging, and into its container's never.
func TestSidecarRestart(t *testing.T) {
	t.Parallel()
	c := newPair(t, func(r *cleanroom.Room) { r.Application = []string{"--restart", "on-failure"} })
	for _, party := range []string{"hospital", "analyst"} {
		c.cloister(c.By(party, "consent", "grant", "--scope", "logging")...)
	}
	sidecar, application := c.both(true)
	application.do("echo first > $OUT/first")
	application.do("setsid sh -c 'while :; do sleep 1; done' & :")
	application.tell("exit 3")
	sidecar.says("exit=3")
	if said := application.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	application.do("! pidof sleep && cp $OUT/first $OUT/second; echo heard; echo heard >&2")
	sidecar.says("stream=stderr")
	application.tell("exit 0")
	application.ends(0)
	sidecar.ends(0, `msg="the application says" platform=SIMULATED stream=stdout text="heard\n"`, "stream=stderr")
	for _, said := range []string{application.stdout.String() + application.stderr.String(), sidecar.stdout.String()} {
		if strings.Contains(said, "heard") {
			t.Errorf("what it prints is said without the runtime: %s", said)
		}
	}
	files := c.decrypt(sidecar.reference("output"))
	if files["first"] != "first\n" || files["second"] != "first\n" {
		t.Errorf("the output is %q", files)
	}
	if last := c.last(); !last.Complete {
		t.Errorf("recorded as %+v", last)
	}
	checks := c.entries("consent-check")
	if starts := len(c.entries("record-execution")); starts != 4 {
		t.Errorf("%d starts and ends are recorded", starts)
	}
	if again := checks[len(checks)-2]; again.Body.What != "starting checksums again" && checks[len(checks)-1].Body.What != "starting checksums again" {
		t.Errorf("consent was asked last for %q and %q", again.Body.What, checks[len(checks)-1].Body.What)
	}
}
