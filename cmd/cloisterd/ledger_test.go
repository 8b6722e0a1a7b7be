package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
	"cloister/policy/cce"
	"cloister/policy/spec"
)

// admitted reads the command line out of a simulated container policy: the one
// that a template of such a specification has too, see package template.
func admitted(t *testing.T, file string) (command []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	_, process, ok := strings.Cut(string(text), "process := ")
	var p struct{ Command []string }
	if err := json.Unmarshal([]byte(process), &p); !ok || err != nil {
		t.Fatalf("the policy names no process: %v\n%s", err, text)
	}
	return p.Command
}

// TestFindsItsLedger: with the command line and the variable that a template has,
// and nothing else but which simulated machine this is, a run comes to its end;
// its ledger is where the specification says, behind a certificate that only the
// specification knows.
func TestFindsItsLedger(t *testing.T) {
	t.Parallel()
	r := newRoomWith(t, os.Getuid(), func(room *cleanroom.Room) { room.LedgerAddress = true })
	s, _ := r.canonical()
	command := admitted(t, r.Policy())
	if s.Governance.Ledger == "" || s.Governance.LedgerCA == "" {
		t.Fatalf("the specification says %+v", s.Governance)
	}
	if want, err := cce.Command(s); err != nil || strings.Join(command, " ") != strings.Join(want, " ") {
		t.Fatalf("%q, want %q, %v", command, want, err)
	}
	run := r.deployed()
	if said := run.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	run.tell("exit 0")
	run.ends(0)
	if last := r.last(); !last.Complete {
		t.Errorf("the run is %+v", last)
	}
}

// TestHasNoLedger: neither told nor agreed, and one that is not the agreed one.
func TestHasNoLedger(t *testing.T) {
	if _, err := openLedger("", spec.Specification{}, platform{}); err == nil || !strings.Contains(err.Error(), "where the ledger is") {
		t.Errorf("%v", err)
	}
	if _, err := openLedger("", spec.Specification{Governance: spec.Governance{Ledger: "https://ledger.example/x", LedgerCA: "?"}}, platform{}); err == nil {
		t.Error("a certificate that is none is believed")
	}
}
