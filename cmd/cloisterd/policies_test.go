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

// deployed starts the runtime as a template of such a specification has it
// started: with the admitted command line, and in variables the specification and
// the policies that it pins. Which simulated machine this is it is told as well.
func (r *site) deployed(policies string) *process {
	r.t.Helper()
	canonical, err := r.Command("cloister", "spec", "show", "--json", r.Path("specification.yaml")).Output()
	must(r.t, err)
	command := admitted(r.t, r.Policy())
	cmd := r.Command(command[0], append(command[1:], "--platform", "simulated:"+r.Path("guest"), "--allow-swap")...)
	cmd.Env = append(cmd.Env, cce.SpecificationVariable+"="+base64.StdEncoding.EncodeToString(canonical), cce.PoliciesVariable+"="+policies)
	return r.watchCommand(cmd)
}

// pinned is the variable's value as templates carry it.
func (r *site) pinned(files map[string][]byte) string {
	r.t.Helper()
	canonical, err := r.Command("cloister", "spec", "show", "--json", r.Path("specification.yaml")).Output()
	must(r.t, err)
	s, err := spec.ParseCanonical(canonical)
	must(r.t, err)
	value, err := cce.PoliciesValue(s, files)
	must(r.t, err)
	return value
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
	value := r.pinned(map[string][]byte{"egress.rego": []byte(egressPolicy)})
	other, err := base64.StdEncoding.DecodeString(value)
	must(t, err)
	loose := strings.Replace(string(other), `allow if {`, `allow if { true } { `, 1)
	if loose == string(other) {
		t.Fatalf("nothing is changed in %s", other)
	}
	r.deployed(base64.StdEncoding.EncodeToString([]byte(loose))).ends(cli.ExitRefused, "the specification pins")
	r.deployed(base64.StdEncoding.EncodeToString([]byte(`{"other.rego":""}`))).ends(cli.ExitNotFound, "egress.rego is not in")
	r.deployed("").ends(cli.ExitNotFound, "egress.rego is nowhere")
	r.deployed("?").ends(cli.ExitUsage, "not base64")
	run := r.deployed(value)
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
