package policy

import (
	"fmt"

	"cloister/policy/cce"
	"cloister/policy/release"
	"cloister/policy/spec"
)

// Translation is what a specification becomes for the platform and the vaults.
type Translation struct {
	// Specification is the digest of the specification's canonical form.
	Specification string
	// ContainerPolicy is the policy's raw text; its SHA-256 is HOST_DATA.
	ContainerPolicy []byte
	// KeyRelease is the policy under which each KEK is stored.
	KeyRelease release.Policy
}

// Translate turns a valid specification into its policies. Whoever has the
// specification and the images that it names gets the same bytes, so every party
// can check what it is asked to approve.
func Translate(s spec.Specification, in cce.Inputs) (Translation, error) {
	container, err := cce.Generate(s, in)
	if err != nil {
		return Translation{}, err
	}
	digest, err := s.Digest()
	if err != nil {
		return Translation{}, err
	}
	keys, err := KeyRelease(s, cce.HostData(container))
	if err != nil {
		return Translation{}, fmt.Errorf("translating specification %s: %w", s.Name, err)
	}
	return Translation{Specification: digest, ContainerPolicy: container, KeyRelease: keys}, nil
}
