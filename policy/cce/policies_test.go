package cce

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cloister/internal/fault"
	"cloister/policy/spec"
)

func digestOf(text string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))) }

// pinning has an endpoint ask each policy, and the way out the first.
func pinning(t *testing.T, texts ...string) (s spec.Specification, files map[string][]byte) {
	s, files = aci(t), map[string][]byte{}
	for i, text := range texts {
		file := spec.PolicyFile{File: fmt.Sprintf("%d.rego", i), Digest: digestOf(text)}
		s.Endpoints = append(s.Endpoints, spec.Endpoint{Policy: &file})
		s.Network.Policy, files[file.File] = s.Endpoints[0].Policy, []byte(text)
	}
	return s, files
}

// TestPoliciesTravel: the texts come out as they went in, in one value for the same
// files, which the runtime's container is let have, and no other.
func TestPoliciesTravel(t *testing.T) {
	texts := []string{"package a\n# \"<&>\u00e9\u2028\x00\n", "", "package c\nallow := true\r\n"}
	s, files := pinning(t, texts...)
	value, err := PoliciesValue(s, files)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := PoliciesValue(s, maps.Clone(files)); again != value || err != nil {
		t.Errorf("another value: %q, not %q, %v", again, value, err)
	}
	got, err := ReadPolicies(value)
	if err != nil || len(got) != len(texts) {
		t.Fatalf("%q, %v", got, err)
	}
	for i, want := range texts {
		if text := got[fmt.Sprintf("%d.rego", i)]; text != want {
			t.Errorf("%q came out as %q", want, text)
		}
	}
	for which, c := range containersFor(t, distributed(t, aks(t))) {
		admitted := slices.ContainsFunc(c.EnvRules, func(r EnvRule) bool {
			return r.Strategy == MatchRE2 && regexp.MustCompile("^(?:"+r.Pattern+")$").MatchString(PoliciesVariable+"="+value)
		})
		if admitted != (which == 0) {
			t.Errorf("container %s is let have the policies: %t", c.Name, admitted)
		}
	}
}

func containersFor(t *testing.T, s spec.Specification) []Container {
	t.Helper()
	list, err := Containers(s, inputs())
	if err != nil || len(list) != 2 {
		t.Fatalf("%d containers, %v", len(list), err)
	}
	return list
}

func TestNoPoliciesNoVariable(t *testing.T) {
	s := aci(t)
	s.Network = spec.Network{Egress: spec.EgressClosed}
	if value, err := PoliciesValue(s, nil); value != "" || err != nil {
		t.Errorf("%q, %v", value, err)
	}
	if strings.Contains(string(generate(t, s)), PoliciesVariable) {
		t.Error("policies are let in that nothing pins")
	}
}

func TestRefusesOtherPolicies(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		change func(map[string][]byte)
		kind   fault.Kind
		says   string
	}{
		"missing": {"package a\n", func(files map[string][]byte) { delete(files, "0.rego") }, fault.NotFound, "0.rego is not there"},
		"changed": {"package a\n", func(files map[string][]byte) { files["0.rego"] = []byte("package a") }, fault.Refused, "policy 0.rego has the digest"},
		"no text": {"\xff", func(map[string][]byte) {}, fault.Refused, "0.rego is no text"},
		"long":    {strings.Repeat("x", maxPolicies*3/4), func(map[string][]byte) {}, fault.Refused, "more than the 65536"},
	} {
		s, files := pinning(t, c.text)
		c.change(files)
		if value, err := PoliciesValue(s, files); value != "" || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %.40q, %v", name, value, err)
		}
	}
	s, files := pinning(t, strings.Repeat("x", maxPolicies*3/4-len(`{"0.rego":""}`)))
	if value, err := PoliciesValue(s, files); len(value) != maxPolicies || err != nil {
		t.Errorf("the longest has %d bytes, %v", len(value), err)
	}
	for _, value := range []string{"?", "e30", "W10=", "eyJhIjoxfQ==", ""} { // no base64, cut short, a list, a number, nothing
		if texts, err := ReadPolicies(value); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q is read as %q, %v", value, texts, err)
		}
	}
}
