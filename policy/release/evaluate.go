package release

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/internal/strictjson"
)

// Claims are the claims of one attestation token whose signature the caller
// has verified: values as encoding/json gives them, with or without UseNumber.
type Claims map[string]any

// Limits of a token's payload: one of a confidential container is about 4 KiB.
const (
	maxTokenSize  = 256 << 10 // bytes
	maxTokenDepth = 32
)

// ParseClaims reads a token's payload, numbers kept as written; a key given
// twice is an error of kind fault.Refused, for two readers would disagree.
func ParseClaims(payload []byte) (Claims, error) {
	v, err := strictjson.Parse(payload, strictjson.Limits{Size: maxTokenSize, Depth: maxTokenDepth})
	if err != nil {
		return nil, fault.Errorf(fault.Refused, "give the token's payload, as JSON", "reading token claims: %w", err)
	}
	claims, ok := v.(map[string]any)
	if !ok {
		return nil, fault.Errorf(fault.Refused, "give the token's payload, as JSON", "reading token claims: not an object")
	}
	return claims, nil
}

// Failure is one condition that is not met.
type Failure struct {
	Authority string   `json:"authority"`
	Path      string   `json:"path"` // place in the policy, "anyOf[0].allOf[3]"
	Claim     string   `json:"claim"`
	Operator  Operator `json:"operator"`
	Expected  string   `json:"expected"`
	Actual    string   `json:"actual"`  // the claim as text, "" when absent
	Present   bool     `json:"present"` // whether the token has the claim
}

// String says what was asked and what was there.
func (f Failure) String() string {
	actual := "no such claim"
	if f.Present {
		actual = fmt.Sprintf("%.200q", f.Actual)
	}
	return fmt.Sprintf("%s %s %q: have %s", f.Claim, f.Operator, f.Expected, actual)
}

// Decision is the answer to a release request. The zero Decision refuses.
type Decision struct {
	Met bool
	// Failures are the conditions that are not met, in the policy's order;
	// empty when Met.
	Failures []Failure
}

// Err returns nil when the policy is met and otherwise an error of kind
// fault.Refused that names each condition that is not.
func (d Decision) Err() error {
	if d.Met {
		return nil
	}
	var texts []string
	for _, f := range d.Failures {
		texts = append(texts, f.String())
	}
	return fault.Errorf(fault.Refused, "compare the container's policy and platform with what the key's owner agreed to",
		"key release policy is not met: %s", strings.Join(texts, "; "))
}

// Evaluate decides over the claims of verified tokens, by the authority that
// issued them: the key is the authority's address, which the caller takes from
// where it verified the signature and not merely from the token.
func (p Policy) Evaluate(byAuthority map[string]Claims) Decision {
	var d Decision
	for i, a := range p.Authorities {
		met, failures := a.evaluate(fmt.Sprintf("anyOf[%d]", i), byAuthority)
		if met {
			return Decision{Met: true}
		}
		d.Failures = append(d.Failures, failures...)
	}
	return d
}

func (a Authority) evaluate(path string, byAuthority map[string]Claims) (bool, []Failure) {
	claims, ok := claimsOf(a.URL, byAuthority)
	if !ok {
		return false, []Failure{{
			Authority: a.URL, Path: path, Claim: "iss", Operator: Equals, Expected: a.URL,
			Actual: strings.Join(slices.Sorted(maps.Keys(byAuthority)), " "), Present: len(byAuthority) > 0,
		}}
	}
	e := evaluation{authority: a.URL, claims: claims}
	return e.group(path, a.AllOf, a.AnyOf)
}

func claimsOf(address string, byAuthority map[string]Claims) (Claims, bool) {
	want, err := normalAuthority(address)
	if err != nil {
		return nil, false
	}
	for _, issuer := range slices.Sorted(maps.Keys(byAuthority)) {
		if got, err := normalAuthority(issuer); err == nil && got == want {
			return byAuthority[issuer], true
		}
	}
	return nil, false
}

type evaluation struct {
	authority string
	claims    Claims
}

// group decides a group; one that is empty, or is both kinds at once, admits
// nothing. Parse lets neither through, but a Policy can be made by hand.
func (e evaluation) group(path string, allOf, anyOf []Condition) (bool, []Failure) {
	name, list := "allOf", allOf
	if len(allOf) == 0 {
		name, list = "anyOf", anyOf
	}
	if len(list) == 0 || len(allOf) > 0 && len(anyOf) > 0 {
		return false, []Failure{{Authority: e.authority, Path: path, Expected: "one group of conditions"}}
	}
	var failures []Failure
	for i, c := range list {
		met, failed := e.condition(fmt.Sprintf("%s.%s[%d]", path, name, i), c)
		if met && name == "anyOf" {
			return true, nil
		}
		failures = append(failures, failed...)
	}
	return len(failures) == 0, failures
}

func (e evaluation) condition(path string, c Condition) (bool, []Failure) {
	if c.Claim == "" {
		return e.group(path, c.AllOf, c.AnyOf)
	}
	claim, present := lookup(e.claims, c.Claim)
	if c.met(claim, present) {
		return true, nil
	}
	return false, []Failure{{
		Authority: e.authority, Path: path, Claim: c.Claim, Operator: c.Operator,
		Expected: c.Value.text, Actual: text(claim), Present: present,
	}}
}

// lookup finds a claim by its name, and, where there is none, by the name as a
// path through objects: "x-ms-isolation-tee.x-ms-compliance-status". A null
// counts as absent; arrays cannot be entered.
func lookup(claims map[string]any, name string) (any, bool) {
	if v, ok := claims[name]; ok {
		return v, v != nil
	}
	head, rest, dotted := strings.Cut(name, ".")
	if !dotted {
		return nil, false
	}
	inner, ok := claims[head].(map[string]any)
	if !ok {
		return nil, false
	}
	return lookup(inner, rest)
}

func (c Condition) met(claim any, present bool) bool {
	if c.Operator == Exists {
		return c.Value.text == strconv.FormatBool(present)
	}
	have, ok := scalar(claim)
	if !present || !ok {
		return false
	}
	switch c.Operator {
	case Equals, NotEquals:
		same, known := equal(have, c.Value)
		return known && same == (c.Operator == Equals)
	}
	order, known := compare(have, c.Value)
	if !known {
		return false
	}
	switch c.Operator {
	case Less:
		return order < 0
	case LessOrEquals:
		return order <= 0
	case Greater:
		return order > 0
	case GreaterOrEquals:
		return order >= 0
	default:
		return false
	}
}

// equal compares as text, and as numbers where one side is a number: a claim 0
// meets the policy's "0". Not known: a number this package does not read.
func equal(a, b Value) (same, known bool) {
	if !a.number && !b.number {
		return a.text == b.text, true
	}
	if order, ok := compare(a, b); ok {
		return order == 0, true
	}
	_, aOK := number(a.text)
	_, bOK := number(b.text)
	return false, (aOK || !a.number) && (bOK || !b.number)
}

func compare(a, b Value) (order int, known bool) {
	x, xOK := number(a.text)
	y, yOK := number(b.text)
	if !xOK || !yOK {
		return 0, false
	}
	return x.Cmp(y), true
}

func scalar(claim any) (Value, bool) {
	switch c := claim.(type) {
	case string:
		return Value{text: c}, true
	case bool:
		return Value{text: strconv.FormatBool(c), bool: true}, true
	case json.Number:
		return Value{text: c.String(), number: true}, true
	case float64:
		return Value{text: strconv.FormatFloat(c, 'f', -1, 64), number: true}, true
	default:
		return Value{}, false
	}
}

func text(claim any) string {
	if v, ok := scalar(claim); ok {
		return v.text
	}
	if claim == nil {
		return ""
	}
	encoded, err := json.Marshal(claim)
	if err != nil {
		return fmt.Sprintf("%T", claim)
	}
	return string(encoded)
}
