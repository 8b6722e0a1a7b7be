package release

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"cloister/internal/fault"
)

// Way is one way to the key: a token of the authority that meets every
// condition. A policy's groups within groups come down to a list of these.
type Way struct {
	Authority string // in its normal form
	// Conditions are statements, never groups, sorted, each once.
	Conditions []Condition
}

// maxWays bounds what nested alternatives multiply to; policies in use have one
// or two.
const maxWays = 1024

// Ways returns every way to the key, sorted, each once: a policy is met exactly
// when one of them is. Errors, of kind fault.Usage, are of groups that multiply
// to more than can be looked at, and of a Policy made by hand that Parse would
// refuse.
func (p Policy) Ways() ([]Way, error) {
	var ways []Way
	for _, a := range p.Authorities {
		address, err := normalAuthority(a.URL)
		if err != nil {
			return nil, fault.Errorf(fault.Usage, grammarHint, "key release policy: %w", err)
		}
		lists, err := alternatives(Condition{AllOf: a.AllOf, AnyOf: a.AnyOf})
		if err != nil {
			return nil, fault.Errorf(fault.Usage, "write the alternatives out", "key release policy, authority %s: %w", address, err)
		}
		for _, l := range lists {
			ways = append(ways, Way{address, tidy(l)})
		}
	}
	slices.SortFunc(ways, func(a, b Way) int { return cmp.Compare(a.key(), b.key()) })
	ways = slices.CompactFunc(ways, func(a, b Way) bool { return a.key() == b.key() })
	return shortest(ways), nil
}

// shortest leaves out each way that asks for all that another asks for, and
// more: whoever goes it could go the other. What is left is the same however the
// groups were written.
func shortest(ways []Way) []Way {
	texts := make([][]string, len(ways))
	for i, w := range ways {
		texts[i] = w.texts()
	}
	var out []Way
	for i, w := range ways {
		implied := false
		for j, other := range ways {
			implied = implied || i != j && other.Authority == w.Authority && within(texts[j], texts[i])
		}
		if !implied {
			out = append(out, w)
		}
	}
	return out
}

// within reports whether every one of a is in b, both without repetition.
func within(a, b []string) bool {
	return len(a) <= len(b) && !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}

// alternatives are the lists of statements each of which meets the condition.
func alternatives(c Condition) ([][]Condition, error) {
	switch {
	case c.Claim != "":
		return [][]Condition{{c}}, nil
	case len(c.AllOf) > 0 && len(c.AnyOf) > 0 || len(c.AllOf)+len(c.AnyOf) == 0:
		return nil, fmt.Errorf("a group is empty, or of both kinds")
	case len(c.AnyOf) > 0:
		var all [][]Condition
		for _, member := range c.AnyOf {
			lists, err := alternatives(member)
			if err != nil {
				return nil, err
			}
			if all = append(all, lists...); len(all) > maxWays {
				return nil, errTooMany
			}
		}
		return all, nil
	}
	all := [][]Condition{nil}
	for _, member := range c.AllOf {
		lists, err := alternatives(member)
		if err != nil {
			return nil, err
		}
		if all, err = product(all, lists); err != nil {
			return nil, err
		}
	}
	return all, nil
}

var errTooMany = fmt.Errorf("its groups come to more than %d alternatives", maxWays)

func product(a, b [][]Condition) ([][]Condition, error) {
	if len(a)*len(b) > maxWays {
		return nil, errTooMany
	}
	var all [][]Condition
	for _, x := range a {
		for _, y := range b {
			all = append(all, slices.Concat(x, y))
		}
	}
	return all, nil
}

func tidy(list []Condition) []Condition {
	slices.SortStableFunc(list, func(a, b Condition) int { return cmp.Compare(a.statement().text, b.statement().text) })
	return slices.CompactFunc(list, func(a, b Condition) bool { return a.statement().text == b.statement().text })
}

func (w Way) key() string { return w.Authority + " " + strings.Join(w.texts(), " ") }

func (w Way) texts() (list []string) {
	for _, c := range w.Conditions {
		list = append(list, c.statement().text)
	}
	return list
}

// String returns a statement as Failure writes one.
func (c Condition) String() string {
	return fmt.Sprintf("%s %s %q", c.Claim, c.Operator, c.Value.Text())
}

// Difference is what only one of two policies has.
type Difference struct {
	OnlyIn string `json:"onlyIn"` // "first" or "second"
	What   string `json:"what"`
}

// Diff compares two policies by the ways to the key: none means that they are
// met by the same tokens. Where each has one way under the same authority, single
// conditions are named, and otherwise whole ways. Errors are those of Ways.
func Diff(first, second Policy) ([]Difference, error) {
	a, err := first.Ways()
	if err != nil {
		return nil, err
	}
	b, err := second.Ways()
	if err != nil {
		return nil, err
	}
	one := len(a) == 1 && len(b) == 1
	return append(onlyIn("first", a, b, one), onlyIn("second", b, a, one)...), nil
}

func onlyIn(name string, a, b []Way, one bool) (list []Difference) {
	for _, w := range a {
		if slices.ContainsFunc(b, func(o Way) bool { return o.key() == w.key() }) {
			continue
		}
		if !one || w.Authority != b[0].Authority {
			list = append(list, Difference{name, w.String()})
			continue
		}
		for i, text := range w.texts() {
			if !slices.Contains(b[0].texts(), text) {
				list = append(list, Difference{name, w.Conditions[i].String()})
			}
		}
	}
	return list
}

// String returns the way on one line.
func (w Way) String() string {
	parts := []string{"authority " + w.Authority}
	for _, c := range w.Conditions {
		parts = append(parts, c.String())
	}
	return strings.Join(parts, ", ")
}
