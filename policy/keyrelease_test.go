package policy

import (
	"strings"
	"testing"

	"cloister/policy/spec"
)

func TestKeyReleaseFollowsTheKind(t *testing.T) {
	azure := spec.Specification{Kind: spec.ACI, Attestation: spec.Attestation{Authority: "https://maa.example.net", MinSVN: 104}}
	p, err := KeyRelease(azure, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	text := string(p.Canonical())
	for _, want := range []string{`"x-ms-sevsnpvm-guestsvn"`, `"2"`, `"0100`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in %s", want, text)
		}
	}
	if strings.Contains(text, "simulated") || strings.Contains(text, "104") {
		t.Errorf("policy for Azure: %s", text)
	}
	if _, err := KeyRelease(azure, [32]byte{}); err == nil {
		t.Error("a policy without host data is made")
	}
	simulated := azure
	simulated.Kind, simulated.Attestation.Authority = spec.Simulated, "https://127.0.0.1:1"
	p, err = KeyRelease(simulated, [32]byte{1})
	if err != nil || !strings.Contains(string(p.Canonical()), "x-cloister-simulated") {
		t.Errorf("policy for the simulated platform: %s, %v", p.Canonical(), err)
	}
}
