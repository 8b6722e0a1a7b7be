package main

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"cloister/fs/format"
	"cloister/governance/statement"
	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/policy/spec"
)

// TestOutputForRecipients: what a run writes is read by the party that the
// specification names, with its own key and no key file, and by no other; and
// that this run wrote it is told by its signature.
func TestOutputForRecipients(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid(), "hospital")
	run := r.start()
	run.do("echo for the hospital too > $OUT/result")
	run.tell("exit 0")
	run.ends(0)
	output, ref := r.Path("store", "output"), run.reference("output")
	dir := r.Path("opened")
	writer := r.auditKey()
	r.cloister("prep", "decrypt", "--identity", r.Path("hospital.party"), "--writer", writer, "--reference", ref, output, dir)
	got, err := os.ReadFile(dir + "/result")
	if err != nil || string(got) != "for the hospital too\n" {
		t.Errorf("the hospital reads %q, %v", got, err)
	}
	for name, args := range map[string][]string{
		"a party that is not named": {"--identity", r.Path("analyst.party")},
		"with another writer":       {"--identity", r.Path("hospital.party"), "--writer", r.Path("analyst.party.pub")},
	} {
		cmd := r.Command("cloister", append(append([]string{"prep", "verify"}, args...), output)...)
		out, err := cmd.CombinedOutput()
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != cli.ExitRefused {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// auditKey returns the key of the last run, as the ledger shows it.
func (r *site) auditKey() (key string) {
	for line := range strings.Lines(r.cloister("audit", "list", "--ledger", r.Path("ledger"), "--json")) {
		var e struct {
			Type string
			Body struct{ AuditKey string }
		}
		must(r.t, json.Unmarshal([]byte(line), &e))
		if e.Body.AuditKey != "" {
			key = e.Body.AuditKey
		}
	}
	if key == "" {
		r.t.Fatal("the ledger shows no audit key")
	}
	return key
}

// TestRecipientsAreAgreed: a contract that names other keys than the measured
// specification is refused, whichever of the two has more.
func TestRecipientsAreAgreed(t *testing.T) {
	party := func(name string) (spec.Party, string) {
		k, err := format.NewRecipientKey(0)
		must(t, err)
		return spec.Party{Name: name, RecipientKey: base64.StdEncoding.EncodeToString(k.Recipient().SPKI())}, k.Recipient().KeyID().String()
	}
	a, aID := party("a")
	b, bID := party("b")
	s := spec.Specification{Parties: []spec.Party{a, b}, DataSinks: []spec.Sink{
		{Name: "none"}, {Name: "one", Recipients: []string{"a"}}, {Name: "both", Recipients: []string{"a", "b"}}, {Name: "unknown", Recipients: []string{"c"}},
	}}
	both := []string{aID, bID}
	slices.Sort(both)
	for _, tc := range []struct {
		sink   string
		agreed []string
		ok     bool
	}{
		{"none", nil, true}, {"one", []string{aID}, true}, {"both", both, true},
		{"none", []string{aID}, false}, {"one", nil, false}, {"one", []string{bID}, false}, {"one", both, false}, {"both", []string{aID}, false}, {"unknown", nil, false},
	} {
		got, err := recipientsOf(s, statement.Volume{Name: tc.sink, Recipients: tc.agreed})
		if (err == nil) != tc.ok || tc.ok && (got == nil || len(got) != len(tc.agreed)) {
			t.Errorf("%s, agreed %q: %v, %v", tc.sink, tc.agreed, got, err)
		}
		if !tc.ok && tc.sink != "unknown" && fault.KindOf(err) != fault.Refused {
			t.Errorf("%s, agreed %q: %v is not a refusal", tc.sink, tc.agreed, err)
		}
	}
}
