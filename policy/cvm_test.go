package policy

import (
	"strings"
	"testing"

	"cloister/internal/fault"
	"cloister/policy/cce"
	"cloister/policy/spec"
)

// No policy can pin what a confidential VM runs, so none is made.
func TestNoPolicyOfAConfidentialVM(t *testing.T) {
	s := spec.Specification{Kind: spec.CVM, Attestation: spec.Attestation{Authority: "https://maa.example"}}
	if _, err := KeyRelease(s, [32]byte{1}); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "no key release policy of kind cvm tells one confidential VM from another") {
		t.Errorf("key release policy: %v", err)
	}
	if _, err := cce.Generate(s, cce.Inputs{}); err == nil {
		t.Error("a container policy is made")
	}
}
