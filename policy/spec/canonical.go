package spec

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"cloister/internal/fault"
)

// MaxSize bounds a canonical specification, in bytes: hundreds of volumes fit,
// and what a host hands to the runtime stays small.
const MaxSize = 1 << 20

// digestPrefix keeps the digest apart from that of any other document.
const digestPrefix = "cloister specification v1\n"

// Canonical returns the bytes that stand for the specification: JSON with
// sorted keys and no spaces, optional fields left out when empty, sets sorted
// by name. For a specification that Validate accepts this is RFC 8785.
func (s Specification) Canonical() ([]byte, error) {
	typed, err := encode(s.Sorted())
	if err != nil {
		return nil, err
	}
	// Through a map, because a struct's fields are written in their own order.
	var tree any
	dec := json.NewDecoder(bytes.NewReader(typed))
	dec.UseNumber()
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	return encode(tree)
}

func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), err
}

// Digest returns "sha256:" and, in hexadecimal, the SHA-256 of a prefix that
// names this kind of document and the canonical bytes.
func (s Specification) Digest() (string, error) {
	canonical, err := s.Canonical()
	if err != nil {
		return "", err
	}
	return DigestOf(canonical), nil
}

// DigestOf returns the digest of bytes that Canonical made. The runtime
// compares it before it parses anything.
func DigestOf(canonical []byte) string {
	h := sha256.New()
	h.Write([]byte(digestPrefix))
	h.Write(canonical)
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// ParseCanonical reads what Canonical wrote and nothing else: one specification
// has one encoding, so no field can be given twice, misspelt or in another
// case. What it returns is valid. Errors are of kind fault.Refused.
func ParseCanonical(data []byte) (Specification, error) {
	s, err := parseCanonical(data)
	if err != nil {
		return Specification{}, fault.Errorf(fault.Refused, "write it again with cloister spec show --json",
			"reading canonical specification: %w", err)
	}
	return s, nil
}

func parseCanonical(data []byte) (Specification, error) {
	var s Specification
	if len(data) > MaxSize {
		return s, fault.Errorf(fault.Refused, "name fewer volumes, or shorter texts", "%d bytes are more than %d", len(data), MaxSize)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return s, err
	}
	again, err := s.Canonical()
	if err != nil {
		return s, err
	}
	if !bytes.Equal(again, data) {
		return s, fault.Errorf(fault.Refused, "hand on the file as it was written, without a line's end or other spaces", "it is not in canonical form")
	}
	return s, s.Validate()
}

// Sorted returns a copy whose sets are in the canonical order, that of their
// names.
func (s Specification) Sorted() Specification {
	s.Parties = sortedBy(s.Parties, func(p Party) string { return p.Name })
	s.Identities = sortedBy(s.Identities, func(i Identity) string { return i.Name })
	s.Code = sortedBy(s.Code, func(v Source) string { return v.Name })
	s.DataSources = sortedBy(s.DataSources, func(v Source) string { return v.Name })
	s.DataSinks = sortedBy(s.DataSinks, func(v Sink) string { return v.Name })
	s.Endpoints = sortedBy(s.Endpoints, func(e Endpoint) string { return e.Name })
	s.Application.Ports = sortedBy(s.Application.Ports, func(p uint32) uint32 { return p })
	s.Network.Allow = sortedBy(s.Network.Allow, Destination.String)
	s.Governance.Witnesses = sortedBy(s.Governance.Witnesses, func(w string) string { return w })
	s.Governance.WitnessAddresses = sortedBy(s.Governance.WitnessAddresses, func(w string) string { return w })
	for i := range s.DataSinks {
		s.DataSinks[i].Recipients = sortedBy(s.DataSinks[i].Recipients, func(r string) string { return r })
	}
	if s.Jobs != nil {
		j := *s.Jobs
		j.Start = sortedBy(j.Start, func(p string) string { return p })
		j.Results = sortedBy(j.Results, func(p string) string { return p })
		s.Jobs = &j
	}
	if s.Deployment != nil {
		d := *s.Deployment
		d.Registries = sortedBy(d.Registries, func(r Registry) string { return r.Server })
		s.Deployment = &d
	}
	return s
}

func sortedBy[T any, K cmp.Ordered](list []T, key func(T) K) []T {
	return slices.SortedStableFunc(slices.Values(list), func(a, b T) int { return cmp.Compare(key(a), key(b)) })
}
