package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
	"cloister/internal/cli"
	"cloister/internal/podman"
)

// parties3 is a clean room under podman with code of the author's, data of the
// hospital's and an output of the analyst's, which the hospital may open too.
func parties3(t *testing.T) (*containers, []string) {
	t.Helper()
	room := newRoomWith(t, 0, func(r *cleanroom.Room) {
		r.Recipients, r.Code = []string{"hospital"}, r.Path("sources")
		must(t, os.MkdirAll(r.Code, 0o755))
		must(t, os.WriteFile(filepath.Join(r.Code, "work.sh"), []byte("cat $IN/private/secret.txt > $OUT/result\n"), 0o644))
	})
	c := &containers{room, podman.New(t)}
	must(t, os.MkdirAll(c.share(), 0o755))
	c.load("monolithic")
	args := append([]string{"--rm", "--network", "host", "--device", "/dev/fuse", "--cap-add", "SYS_ADMIN", "--volume", c.Dir + ":" + c.Dir}, c.environment()...)
	return c, append(args, "localhost/monolithic:test", "run")
}

// TestThreeParties: one party's code runs on another's data in a real container;
// the entitled open what comes of it, each with their own key, and the author of
// the code, who is not, is told so.
func TestThreeParties(t *testing.T) {
	t.Parallel()
	c, args := parties3(t)
	run := c.launchContainer(append(args, c.measured()...)...)
	if said := run.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	run.do("sh $CODE/work.sh")
	run.tell("exit 0")
	run.ends(0)

	ref, output := run.reference("output"), c.Path("store", "output")
	if got := c.decrypt(ref)["result"]; got != "for the owner alone\n" {
		t.Errorf("the analyst reads %q", got)
	}
	c.cloister("prep", "decrypt", "--identity", c.Path("hospital.party"), "--writer", c.auditKey(), "--reference", ref, output, c.Path("opened"))
	if got, err := os.ReadFile(c.Path("opened", "result")); err != nil || string(got) != "for the owner alone\n" {
		t.Errorf("the hospital reads %q, %v", got, err)
	}
	for _, key := range [][]string{
		{"--identity", c.Path("author.party"), "--writer", c.auditKey()},
		{"--key", c.Path("author.key")},
		{"--key", c.Path("hospital.key")}, // of its input, not of the output
	} {
		to := c.Path("refused")
		_, err := c.Cloister(append(append([]string{"prep", "decrypt"}, key...), "--reference", ref, output, to)...)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != cli.ExitRefused || !strings.Contains(err.Error(), "hint: ") {
			t.Errorf("%q: %v", key, err)
		}
		if _, err := os.Stat(filepath.Join(to, "result")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%q: it opens the result: %v", key, err)
		}
	}
	c.checkNothingLeft()
}

// TestThreePartiesWithdrawn: an owner who withdraws consent in mid-run ends it:
// nothing is mounted, no container and no process is left, what was written is
// kept and marked partial, and the record says whose consent it was.
func TestThreePartiesWithdrawn(t *testing.T) {
	t.Parallel()
	for _, party := range []string{"hospital", "author"} {
		t.Run(party, func(t *testing.T) {
			t.Parallel()
			c, args := parties3(t)
			run := c.launchContainer(append(args, c.measured("--consent-interval", "100ms", "--grace", "300ms")...)...)
			if said := run.hear(); said != "up" {
				t.Fatalf("the application said %q", said)
			}
			run.do("sh $CODE/work.sh")
			c.cloister(c.By(party, "consent", "withdraw")...)
			run.ends(cli.ExitRefused, "the application was ended", `party "`+party+`" withdrew`, "hint: ")
			c.checkNothingLeft()
			if got := c.decrypt(run.reference("partial"))["result"]; got != "for the owner alone\n" {
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
