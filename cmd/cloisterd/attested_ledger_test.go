package main

import (
	"os"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
	"cloister/internal/cli"
)

// TestAttestedLedger: the ledger is in a container of its own, and the specification
// demands that it proves it. Both the parties and the run ask for that; another
// ledger, or this one in another container, is told nothing.
func TestAttestedLedger(t *testing.T) {
	t.Parallel()
	r := newRoomWith(t, os.Getuid(), func(r *cleanroom.Room) { r.AttestedLedger = true })
	p := r.start()
	p.do("echo recorded > $OUT/said")
	p.tell("exit 0")
	p.ends(0)
	if last := r.last(); !last.Complete {
		t.Errorf("recorded as %+v", last)
	}
	if out := r.cloister(r.By("analyst", "contract", "review")...); !strings.Contains(out, "before it proves that its key is in a container under policy sha256:") {
		t.Errorf("the review says %s", out)
	}

	// Its operator starts it in a container that nobody agreed on.
	ledger := r.Ledger
	other := r.Path("other-policy.rego")
	must(t, os.WriteFile(other, []byte("package cloister_simulated_other\n"), 0o644))
	must(t, r.Guest("other-guest", other))
	must(t, r.ServeAttested("other-guest", "ledger-elsewhere"))
	r.launch().ends(cli.ExitRefused, "the ledger's evidence", "host data")
	r.refuses("host data", r.By("analyst", "contract", "status")...)

	// One that shows none, and one in the agreed container, whose key is another.
	r.Ledger = ledger
	must(t, r.ServeAttested("ledger-guest", "ledger-anew"))
	r.launch().ends(cli.ExitRefused, "the ledger's evidence", "report data")
	r.refuses("report data", r.By("analyst", "contract", "status")...)
}

// refuses wants a command of cloister to be refused, and to say so.
func (r *site) refuses(said string, args ...string) {
	r.t.Helper()
	if out, err := r.Cloister(args...); err == nil || !strings.Contains(err.Error(), said) {
		r.t.Errorf("cloister %s: %v, want a refusal that says %q\n%s", args[0], err, said, out)
	}
}
