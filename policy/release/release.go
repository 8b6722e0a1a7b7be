// Package release holds the key release policy of Azure Key Vault and Managed
// HSM: the document under which a vault hands out an exportable key.
//
// Life of a policy: New makes it from what a container must be; its Canonical
// bytes are given to the vault together with the key. Later the vault receives
// an attestation token with a release request, reads the claims, and asks
// Evaluate, which answers with every condition that is not met. Whoever was
// promised a policy reads it back with Parse and compares with Equal.
//
// The grammar is Microsoft's "Azure Key Vault secure key release policy
// grammar" (learn.microsoft.com, key-vault/keys/policy-grammar), version 1.0.0.
package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Version is the only version of the grammar the services accept.
const Version = "1.0.0"

// Policy admits a request when one of its authorities does. The zero Policy
// admits nothing.
type Policy struct {
	Authorities []Authority
}

// Authority trusts the tokens of one attestation service, and of those only
// the ones that meet its conditions. Exactly one of AllOf and AnyOf is set.
type Authority struct {
	// URL is the service's address as the policy has it, https only. A token's
	// issuer matches it whatever the case of the host and a last slash.
	URL   string
	AllOf []Condition
	AnyOf []Condition
}

// Condition is a statement about one claim, or a group of conditions: either
// Claim, Operator and Value are set, or AllOf, or AnyOf.
type Condition struct {
	Claim    string
	Operator Operator
	Value    Value
	AllOf    []Condition
	AnyOf    []Condition
}

// Operator compares a claim with a value.
type Operator string

// The grammar's operators. The four that order compare decimal numbers, in
// strings or not. A claim that is absent, null, an object or an array meets
// none of them except Exists.
const (
	Equals          Operator = "equals"
	NotEquals       Operator = "notEquals"
	Less            Operator = "less"
	LessOrEquals    Operator = "lessOrEquals"
	Greater         Operator = "greater"
	GreaterOrEquals Operator = "greaterOrEquals"
	Exists          Operator = "exists" // with the value "true" or "false"
)

var operators = [...]Operator{Equals, NotEquals, Less, LessOrEquals, Greater, GreaterOrEquals, Exists}

// Value is what a claim is compared with. The services take strings, numbers
// and booleans; policies mostly hold strings, whatever the claim's type is.
type Value struct {
	text   string
	number bool
	bool   bool
}

// String makes a Value of a JSON string.
func String(s string) Value { return Value{text: s} }

// Text returns the value without JSON's quotes.
func (v Value) Text() string { return v.text }

func (v Value) json() any {
	switch {
	case v.number:
		return json.Number(v.text)
	case v.bool:
		return v.text == "true"
	default:
		return v.text
	}
}

// Canonical returns the policy as JSON without spaces, keys sorted, conditions
// in their own order. Parse reads it back unchanged.
func (p Policy) Canonical() []byte {
	list := []any{}
	for _, a := range p.Authorities {
		list = append(list, a.json())
	}
	return encode(map[string]any{"version": Version, "anyOf": list})
}

// encode writes values made here of strings, checked numbers and booleans, on
// which the encoder cannot fail; had it, nil is no policy and admits nothing.
func encode(v any) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// Digest returns "sha256:" and the hash of the canonical bytes in hex, the
// name under which a contract pins this policy.
func (p Policy) Digest() string {
	sum := sha256.Sum256(p.Canonical())
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (a Authority) json() map[string]any {
	m := groups(a.AllOf, a.AnyOf)
	m["authority"] = a.URL
	return m
}

func (c Condition) json() map[string]any {
	m := groups(c.AllOf, c.AnyOf)
	if c.Claim != "" || c.Operator != "" {
		m["claim"] = c.Claim
		m[string(c.Operator)] = c.Value.json()
	}
	return m
}

func groups(allOf, anyOf []Condition) map[string]any {
	m := map[string]any{}
	for name, conditions := range map[string][]Condition{"allOf": allOf, "anyOf": anyOf} {
		if conditions == nil {
			continue
		}
		list := []any{}
		for _, c := range conditions {
			list = append(list, c.json())
		}
		m[name] = list
	}
	return m
}
