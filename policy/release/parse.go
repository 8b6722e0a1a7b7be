package release

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/url"
	"slices"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/internal/strictjson"
)

// Limits of this reader; the services publish none. They are far above any
// policy seen in use (about 1 KiB) and keep evaluation trivial.
const (
	maxSize       = 64 << 10 // bytes
	maxDepth      = 32       // JSON levels; a group takes two
	maxConditions = 1024     // statements and groups together
	maxClaimName  = 256      // bytes
	maxNumber     = 64       // characters of a number: also bounds the cost of comparing
)

const grammarHint = "see the key release policy grammar, version " + Version

// Parse reads a policy strictly: an unknown field or operator, an empty group,
// a missing or other version, a key given twice and an authority that is not
// an https address are errors of kind fault.Usage that name the place.
func Parse(data []byte) (Policy, error) {
	p, err := parse(data)
	if err != nil {
		return Policy{}, fault.Errorf(fault.Usage, grammarHint, "reading key release policy: %w", err)
	}
	return p, nil
}

func parse(data []byte) (Policy, error) {
	tree, err := strictjson.Parse(data, strictjson.Limits{Size: maxSize, Depth: maxDepth})
	if err != nil {
		return Policy{}, err
	}
	doc, ok := tree.(map[string]any)
	if !ok {
		return Policy{}, fmt.Errorf("the document is not an object")
	}
	if err := onlyKeys("", doc, "version", "anyOf"); err != nil {
		return Policy{}, err
	}
	if version, ok := doc["version"].(string); !ok || version != Version {
		return Policy{}, fmt.Errorf(`version is %v, not "%s"`, doc["version"], Version)
	}
	list, err := objects("anyOf", doc["anyOf"])
	if err != nil {
		return Policy{}, err
	}
	var p Policy
	var r reader
	for i, o := range list {
		a, err := r.authority(fmt.Sprintf("anyOf[%d]", i), o)
		if err != nil {
			return Policy{}, err
		}
		p.Authorities = append(p.Authorities, a)
	}
	return p, nil
}

// reader counts the conditions of one document.
type reader struct{ conditions int }

func (r *reader) authority(at string, o map[string]any) (Authority, error) {
	if err := onlyKeys(at, o, "authority", "allOf", "anyOf"); err != nil {
		return Authority{}, err
	}
	address, ok := o["authority"].(string)
	if !ok {
		return Authority{}, fmt.Errorf("%s: authority is missing or not a string", at)
	}
	if _, err := normalAuthority(address); err != nil {
		return Authority{}, fmt.Errorf("%s: %w", at, err)
	}
	allOf, anyOf, err := r.groups(at, o)
	return Authority{URL: address, AllOf: allOf, AnyOf: anyOf}, err
}

func (r *reader) condition(at string, o map[string]any) (Condition, error) {
	if r.conditions++; r.conditions > maxConditions {
		return Condition{}, fmt.Errorf("%s: more than %d conditions", at, maxConditions)
	}
	if _, leaf := o["claim"]; leaf {
		return statement(at, o)
	}
	if err := onlyKeys(at, o, "allOf", "anyOf"); err != nil {
		return Condition{}, err
	}
	allOf, anyOf, err := r.groups(at, o)
	return Condition{AllOf: allOf, AnyOf: anyOf}, err
}

// groups reads the one group that o must have.
func (r *reader) groups(at string, o map[string]any) (allOf, anyOf []Condition, err error) {
	_, all := o["allOf"]
	_, any := o["anyOf"]
	if all == any {
		return nil, nil, fmt.Errorf("%s: exactly one of allOf and anyOf is needed", at)
	}
	if all {
		allOf, err = r.list(at+".allOf", o["allOf"])
	} else {
		anyOf, err = r.list(at+".anyOf", o["anyOf"])
	}
	return allOf, anyOf, err
}

func (r *reader) list(at string, v any) ([]Condition, error) {
	list, err := objects(at, v)
	if err != nil {
		return nil, err
	}
	var conditions []Condition
	for i, o := range list {
		c, err := r.condition(fmt.Sprintf("%s[%d]", at, i), o)
		if err != nil {
			return nil, err
		}
		conditions = append(conditions, c)
	}
	return conditions, nil
}

func statement(at string, o map[string]any) (Condition, error) {
	var c Condition
	for _, op := range operators {
		if v, ok := o[string(op)]; ok {
			if c.Operator != "" {
				return c, fmt.Errorf("%s: both %s and %s: a condition has one operator", at, c.Operator, op)
			}
			value, err := parseValue(op, v)
			if err != nil {
				return c, fmt.Errorf("%s: %w", at, err)
			}
			c.Operator, c.Value = op, value
		}
	}
	if err := onlyKeys(at, o, "claim", string(c.Operator)); err != nil {
		return c, err
	}
	if c.Operator == "" {
		return c, fmt.Errorf("%s: no operator", at)
	}
	name, ok := o["claim"].(string)
	if !ok || name == "" || len(name) > maxClaimName {
		return c, fmt.Errorf("%s: claim is not a string of 1 to %d bytes", at, maxClaimName)
	}
	c.Claim = name
	return c, nil
}

func parseValue(op Operator, v any) (Value, error) {
	var value Value
	switch v := v.(type) {
	case string:
		value = Value{text: v}
	case bool:
		value = Value{text: fmt.Sprint(v), bool: true}
	case json.Number:
		if _, ok := number(v.String()); !ok {
			return value, fmt.Errorf("%s: %.80s is not a plain decimal number", op, v)
		}
		value = Value{text: v.String(), number: true}
	default:
		return value, fmt.Errorf("%s: the value is not a string, number or boolean", op)
	}
	switch op {
	case Exists:
		if value.text != "true" && value.text != "false" {
			return value, fmt.Errorf("exists: the value is neither true nor false")
		}
	case Less, LessOrEquals, Greater, GreaterOrEquals:
		if _, ok := number(value.text); !ok {
			return value, fmt.Errorf("%s: %.80q is not a plain decimal number", op, value.text)
		}
	}
	return value, nil
}

// number reads a decimal without exponent: exponents make short texts of huge
// numbers, and no claim has one.
func number(s string) (*big.Rat, bool) {
	digits := strings.TrimPrefix(s, "-")
	whole, fraction, point := strings.Cut(digits, ".")
	if len(s) > maxNumber || !isDigits(whole) || point && !isDigits(fraction) {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func objects(at string, v any) ([]map[string]any, error) {
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil, fmt.Errorf("%s: missing, not a list, or empty", at)
	}
	var out []map[string]any
	for i, e := range list {
		o, ok := e.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s[%d]: not an object", at, i)
		}
		out = append(out, o)
	}
	return out, nil
}

func onlyKeys(at string, o map[string]any, known ...string) error {
	for _, key := range slices.Sorted(maps.Keys(o)) {
		if !slices.Contains(known, key) {
			return fmt.Errorf("%s: unknown field %.80q", cmp.Or(at, "policy"), key)
		}
	}
	return nil
}

// normalAuthority returns the form in which two addresses of one attestation
// service are the same text: the services add a slash when they store a policy.
func normalAuthority(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", fmt.Errorf("authority %.200q is not an https address", address)
	}
	return "https://" + strings.ToLower(u.Host) + strings.TrimSuffix(u.EscapedPath(), "/"), nil
}
