package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
	"cloister/internal/cli"
	"cloister/internal/podman"
)

// parties3 is a clean room under podman with code of the author's, data of the
// hospital's and of the analyst's, and an output of the analyst's, which the hospital
// may open too. Its code serves the client that calls at the address.
func parties3(t *testing.T) (c *containers, args []string, address string) {
	t.Helper()
	port := freePort(t)
	room := newRoomWith(t, 0, func(r *cleanroom.Room) {
		buildProgram(t, r, "server")
		r.Recipients, r.Code, r.Second = []string{"hospital"}, r.Path("sources"), r.Path("cohort")
		r.Ports = [][]string{{"--name", "web", "--port", port, "--application-port", "8080"}}
		must(t, errors.Join(os.MkdirAll(r.Code, 0o755), os.MkdirAll(r.Second, 0o755)))
		must(t, os.WriteFile(filepath.Join(r.Second, "cohort.txt"), []byte("and for the analyst\n"), 0o644))
		must(t, os.WriteFile(filepath.Join(r.Code, "work.sh"), []byte(authored), 0o644))
	})
	c = &containers{room, podman.New(t)}
	must(t, os.MkdirAll(c.share(), 0o755))
	c.load("monolithic")
	args = append([]string{"--rm", "--network", "host", "--device", "/dev/fuse", "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--volume", c.Dir + ":" + c.Dir}, c.environment()...)
	return c, append(args, "localhost/monolithic:test", "run"), "127.0.0.1:" + port
}

// authored is the author's code, and joined what comes of both owners' data.
const (
	authored = "cat $IN/private/secret.txt $SECOND/cohort.txt > $OUT/result\n$IN/server 8080 >/dev/null 2>&1 &\n"
	joined   = "for the owner alone\nand for the analyst\n"
)

// call is a client's, over attested TLS.
func (c *containers) call(address string) (string, error) {
	return c.Cloister(append(c.By("hospital", "call", "https://"+address+"/read"), "--platform", "simulated:"+c.Path("guest"))...)
}

// answered waits until the client has what the application answers.
func (c *containers) answered(address string) {
	c.t.Helper()
	until(c.t, "the client is answered", func() bool {
		got, _ := c.call(address)
		return got == "for the owner alone"
	})
}

// TestThreeParties: one party's code runs on two others' data in a real container,
// and answers a client that has made sure whom it calls; the entitled open what comes
// of it, each with their own key, and the author of the code, who is not, is told so.
func TestThreeParties(t *testing.T) {
	t.Parallel()
	c, args, address := parties3(t)
	run := c.launchContainer(append(args, c.measured()...)...)
	if said := run.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	run.do("sh $CODE/work.sh")
	c.answered(address)
	run.tell("exit 0")
	run.ends(0)
	if got, err := c.call(address); exitOf(err) != cli.ExitUnavailable {
		t.Errorf("after the end the client has %q, %v", got, err)
	}

	ref, output := run.reference("output"), c.Path("store", "output")
	if got := c.decrypt(ref)["result"]; got != joined {
		t.Errorf("the analyst reads %q", got)
	}
	c.cloister("prep", "decrypt", "--identity", c.Path("hospital.party"), "--writer", c.auditKey(), "--reference", ref, output, c.Path("opened"))
	if got, err := os.ReadFile(c.Path("opened", "result")); err != nil || string(got) != joined {
		t.Errorf("the hospital reads %q, %v", got, err)
	}
	for _, tc := range []struct {
		key  []string
		said string
	}{
		{[]string{"--identity", c.Path("author.party"), "--writer", c.auditKey()}, "the volume is not sealed for this key"},
		{[]string{"--key", c.Path("author.key")}, "the key is not this volume's"},
		{[]string{"--key", c.Path("hospital.key")}, "the key is not this volume's"}, // of its input, not of the output
	} {
		key, to := tc.key, c.Path("refused")
		_, err := c.Cloister(append(append([]string{"prep", "decrypt"}, key...), "--reference", ref, output, to)...)
		if exitOf(err) != cli.ExitRefused || !strings.Contains(err.Error(), tc.said) || !strings.Contains(err.Error(), "hint: ") {
			t.Errorf("%q: %v, want a refusal that says %q", key, err, tc.said)
		}
		if _, err := os.Stat(filepath.Join(to, "result")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%q: it opens the result: %v", key, err)
		}
	}
	_, err := c.Cloister(append(c.By("author", "results", "--specification", c.Path("specification.yaml")), c.Path("none"))...)
	if exitOf(err) != cli.ExitDenied || !strings.Contains(err.Error(), "has no output that party author can open") {
		t.Errorf("the author's results: %v", err)
	}
	c.checkNothingLeft()
}

// TestThreePartiesWithdrawn: an owner who withdraws consent in mid-run ends it: the
// client is answered no more, nothing is mounted, no container and no process is left, what was written is
// kept and marked partial, and the record says whose consent it was.
func TestThreePartiesWithdrawn(t *testing.T) {
	t.Parallel()
	for _, party := range []string{"hospital", "analyst", "author"} {
		t.Run(party, func(t *testing.T) {
			t.Parallel()
			c, args, address := parties3(t)
			run := c.launchContainer(append(args, c.measured("--consent-interval", "100ms", "--grace", "300ms")...)...)
			if said := run.hear(); said != "up" {
				t.Fatalf("the application said %q", said)
			}
			run.do("sh $CODE/work.sh")
			c.answered(address)
			c.cloister(c.By(party, "consent", "withdraw")...)
			run.ends(cli.ExitRefused, "the application was ended", `party "`+party+`" withdrew`, "hint: ")
			c.checkNothingLeft()
			if got, err := c.call(address); err == nil {
				t.Errorf("the client still has %q", got)
			}
			if got := c.decrypt(run.reference("partial"))["result"]; got != joined {
				t.Errorf("the output has %q", got)
			}
			if last := c.last(); !last.Completed || last.Complete || !strings.Contains(last.Detail, `party "`+party+`" withdrew`) {
				t.Errorf("recorded as %+v", last)
			}
			again := c.launchContainer(append(args, c.measured()...)...)
			again.ends(cli.ExitRefused, "no consent to execution")
		})
	}
}
