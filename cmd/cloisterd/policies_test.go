package main

import (
	"encoding/base64"
	"os"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
	"cloister/internal/cli"
	"cloister/policy/cce"
	"cloister/policy/spec"
)

// canonical is what was agreed, in the form that a template carries.
func (r *site) canonical() (spec.Specification, []byte) {
	r.t.Helper()
	text, err := r.Command("cloister", "spec", "show", "--json", r.Path("specification.yaml")).Output()
	must(r.t, err)
	s, err := spec.ParseCanonical(text)
	must(r.t, err)
	return s, text
}

// deployed starts the runtime as a template of such a specification does: with the
// admitted command line, and the specification in a variable. Beside more variables
// it is told which simulated machine this is.
func (r *site) deployed(variables ...string) *process {
	r.t.Helper()
	_, text := r.canonical()
	command := admitted(r.t, r.Policy())
	cmd := r.Command(command[0], append(command[1:], "--platform", "simulated:"+r.Path("guest"), "--allow-swap")...)
	cmd.Env = append(append(cmd.Env, cce.SpecificationVariable+"="+base64.StdEncoding.EncodeToString(text)), variables...)
	return r.watchCommand(cmd)
}

// told is the variable of the policies with a text in it, in base64.
func told(text string) string {
	return cce.PoliciesVariable + "=" + base64.StdEncoding.EncodeToString([]byte(text))
}

// TestFindsItsPolicies: a runtime that is told what a template tells it asks the
// policy that the specification pins; one that is told another, or none, does not
// start.
func TestFindsItsPolicies(t *testing.T) {
	t.Parallel()
	outside, asked := outsideServer(t)
	r := newRoomWith(t, os.Getuid(), func(c *cleanroom.Room) {
		must(t, os.WriteFile(c.Path("egress.rego"), []byte(egressPolicy), 0o644))
		clients(t, c)
		c.LedgerAddress, c.Application, c.Network = true, withProxy, []string{"--policy", c.Path("egress.rego"), "policy"}
	})
	must(t, os.Remove(r.Path("egress.rego"))) // a container has no file of it
	s, _ := r.canonical()
	value, err := cce.PoliciesValue(s, map[string][]byte{"egress.rego": []byte(egressPolicy)})
	must(t, err)
	other, err := base64.StdEncoding.DecodeString(value)
	must(t, err)
	loose := strings.Replace(string(other), `allow if {`, `allow if { true } { `, 1)
	if loose == string(other) {
		t.Fatalf("nothing is changed in %s", other)
	}
	r.deployed(told(loose)).ends(cli.ExitRefused, "the specification pins")
	r.deployed(told(`{"other.rego":""}`)).ends(cli.ExitNotFound, "egress.rego is not in")
	r.deployed().ends(cli.ExitNotFound, "egress.rego is nowhere")
	r.deployed(cce.PoliciesVariable+"=?").ends(cli.ExitUsage, "not base64")
	run := r.deployed(cce.PoliciesVariable + "=" + value)
	if said := run.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	run.do(fetch("http://"+outside+"/private", 403, "only what is public"))
	run.tell("exit 0")
	run.ends(0)
	if paths := asked(); len(paths) > 0 {
		t.Errorf("loopback was reached: %q", paths)
	}
}
