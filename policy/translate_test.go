package policy

import (
	"bytes"
	"encoding/hex"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloister/policy/cce"
	"cloister/policy/release"
	"cloister/policy/spec"
	"cloister/policy/spec/yaml"
)

func TestTranslate(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("spec", "yaml", "testdata", "example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := yaml.Load(text)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Translate(s, cce.Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	hostData := cce.HostData(got.ContainerPolicy)
	claims := release.Claims{ // of a guest as Azure's are
		"x-ms-attestation-type": "sevsnpvm", "x-ms-compliance-status": "azure-compliant-uvm",
		"x-ms-sevsnpvm-hostdata": hex.EncodeToString(hostData[:]), "x-ms-sevsnpvm-is-debuggable": false,
		"x-ms-sevsnpvm-vmpl": float64(0), "x-ms-sevsnpvm-guestsvn": float64(2), release.SimulatedClaim: "true",
	}
	token := map[string]release.Claims{s.Attestation.Authority: claims}
	if d := got.KeyRelease.Evaluate(token); !d.Met {
		t.Error(d.Err())
	}
	for i := range got.ContainerPolicy { // one bit of any byte is another container
		changed := bytes.Clone(got.ContainerPolicy)
		changed[i] ^= 1
		other := cce.HostData(changed)
		claims := maps.Clone(claims)
		claims["x-ms-sevsnpvm-hostdata"] = hex.EncodeToString(other[:])
		if got.KeyRelease.Evaluate(map[string]release.Claims{s.Attestation.Authority: claims}).Met {
			t.Fatalf("byte %d of the policy is changed, and the key is released", i)
		}
	}
	if !strings.Contains(string(got.ContainerPolicy), got.Specification) {
		t.Error("the container policy does not pin the specification's digest")
	}

	s.Application.Command[1] = "--other"
	other, err := Translate(s, cce.Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	d := other.KeyRelease.Evaluate(token)
	if d.Met || len(d.Failures) != 1 || d.Failures[0].Claim != "x-ms-sevsnpvm-hostdata" {
		t.Errorf("another specification's container is given the key: %+v", d)
	}
	if _, err := Translate(spec.Specification{}, cce.Inputs{}); err == nil {
		t.Error("nothing was translated")
	}
}
