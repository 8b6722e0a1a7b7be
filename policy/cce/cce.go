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

	"cloister/internal/fault"
	"cloister/policy/spec"
)

// Generate returns the policy's text: the same specification gives the same
// bytes. The specification must be valid.
func Generate(s spec.Specification) ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("generating container policy: %w", err)
	}
	if err := expressible(s); err != nil {
		return nil, fmt.Errorf("generating container policy: %w", err)
	}
	command, err := Command(s)
	if err != nil {
		return nil, fmt.Errorf("generating container policy: %w", err)
	}
	if s.Kind == spec.Simulated {
		return simulated(s, command), nil
	}
	return platform(s, command), nil
}

// expressible refuses what the text would not hold the platform to: a container
// without layers, and a sidecar's group of two.
func expressible(s spec.Specification) error {
	switch {
	case s.Kind != spec.Simulated && len(s.Application.Image.Layers) == 0:
		return fault.Errorf(fault.Usage, "give each layer's dm-verity root hash with --layer, lowest first", "image %s has no layer hashes", s.Application.Image.Reference)
	case s.Model != spec.Monolithic:
		return fault.Errorf(fault.Usage, "use model "+spec.Monolithic, "model %s has no container policy yet", s.Model)
	}
	return nil
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
// the host cannot change, and what it is told otherwise it must not believe.
func Command(s spec.Specification) ([]string, error) {
	digest, err := s.Digest()
	if err != nil {
		return nil, err
	}
	program := "/cloisterd" // where the runtime image has it
	if s.Kind == spec.Simulated {
		program = "cloisterd" // wherever it is: the binary's hash is pinned instead
	}
	return []string{program, "run", "--specification-digest", digest, "--ledger-key", s.Governance.LedgerKey}, nil
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
