// Package cce writes the container policy: what the confidential platform's
// utility VM lets the host start, and nothing else.
//
// Life of a policy: Generate takes a valid specification and writes Rego as
// the platform's own tool does. The host hands the text to the platform, whose
// firmware binds HostData, its SHA-256, into every attestation report; the
// enforcement framework in the utility VM then refuses each mount, container
// and process that the text does not list. The runtime's command line is among
// what is listed, and it holds the specification's digest and the ledger's key:
// so a report speaks for one specification.
//
// For kind simulated the text is of another form altogether, see simulated.go.
package cce

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"cloister/internal/fault"
	"cloister/policy/spec"
)

// Generate returns the policy's text: the same specification and images give
// the same bytes. The specification must be valid.
func Generate(s spec.Specification, in Inputs) ([]byte, error) {
	text, err := textOf(s, in)
	if err != nil {
		return nil, fmt.Errorf("generating container policy: %w", err)
	}
	return text, nil
}

func textOf(s spec.Specification, in Inputs) ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	switch s.Kind {
	case spec.Simulated:
	case spec.CVM:
		return nil, fault.Errorf(fault.Usage, "set kind aci or aks; what a confidential VM runs is pinned by the PCRs of its system's build",
			"no container policy is enforced in kind cvm")
	default:
		return platform(s, in)
	}
	command, err := Command(s)
	if err != nil {
		return nil, err
	}
	return simulated(s, command), nil
}

// HostData returns the SHA-256 of a policy's text: the value of HOST_DATA in
// the attestation report of every container that runs under it.
func HostData(policy []byte) [32]byte { return sha256.Sum256(policy) }

// Digest returns "sha256:" and HostData in hexadecimal.
func Digest(policy []byte) string {
	sum := HostData(policy)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Command returns the runtime's measured command line: what it is told here
// the host cannot change, and what it is told otherwise it must not believe. The
// digest pins all that the specification says, the ledger's address among it.
func Command(s spec.Specification) ([]string, error) {
	digest, err := s.Digest()
	if err != nil {
		return nil, err
	}
	program := "/cloisterd" // where the runtime image has it
	if s.Kind == spec.Simulated {
		program = "cloisterd" // wherever it is: the binary's hash is pinned instead
	}
	measured := []string{"--specification-digest", digest, "--ledger-key", s.Governance.LedgerKey}
	if s.Model != spec.Distributed {
		return append([]string{program, "run"}, measured...), nil
	}
	share, err := Share(s)
	return append([]string{program, "serve", "--share", share}, measured...), err
}

// ShimCommand returns the measured command line of the application's container
// in the distributed model: the shim, and through it all that the specification
// says of the application.
func ShimCommand(s spec.Specification) ([]string, error) {
	digest, err := s.Digest()
	if err != nil {
		return nil, err
	}
	share, err := Share(s)
	if err != nil {
		return nil, err
	}
	command := []string{"/cloister-shim", "--share", share, "--specification-digest", digest}
	for _, mount := range slices.Sorted(slices.Values(mountPoints(s))) {
		command = append(command, "--mount", mount)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Application.Environment)) {
		command = append(command, "--env", name+"="+s.Application.Environment[name])
	}
	if s.Application.WorkingDir != "" {
		command = append(command, "--workdir", s.Application.WorkingDir)
	}
	if s.Network.Egress == spec.EgressUnguarded {
		command = append(command, "--pod-network")
	}
	return append(append(command, "--"), s.Application.Command...), nil
}

// encode writes a value on one line, keys sorted. Rego's terms are JSON's.
func encode(v any) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	// Only maps, lists, texts, numbers and booleans made here: it cannot fail,
	// and were it to, the text would not be Rego and admit nothing.
	if err := enc.Encode(v); err != nil {
		return nil
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

func encodeIndented(v any) []byte {
	var out bytes.Buffer
	if err := json.Indent(&out, encode(v), "", "  "); err != nil {
		return nil
	}
	return out.Bytes()
}
