package provision

import (
	"fmt"
	"slices"
	"strings"

	"cloister/policy/release"
)

// difference says which conditions only one of two policies has, the present
// one first. Policies with the same conditions, grouped otherwise, are shown
// whole.
func difference(have, want release.Policy) string {
	present, wanted := conditions(have), conditions(want)
	var parts []string
	for _, c := range present {
		if !slices.Contains(wanted, c) {
			parts = append(parts, "has "+c)
		}
	}
	for _, c := range wanted {
		if !slices.Contains(present, c) {
			parts = append(parts, "lacks "+c)
		}
	}
	if parts == nil {
		return fmt.Sprintf("has %s, lacks %s", have.Canonical(), want.Canonical())
	}
	return strings.Join(parts, ", ")
}

func conditions(p release.Policy) (all []string) {
	for _, a := range p.Authorities {
		authority := strings.TrimSuffix(a.URL, "/")
		all = append(all, "authority "+authority)
		var walk func(group []release.Condition)
		walk = func(group []release.Condition) {
			for _, c := range group {
				if c.Claim != "" {
					all = append(all, fmt.Sprintf("%s %s %q", c.Claim, c.Operator, c.Value.Text()))
				}
				walk(c.AllOf)
				walk(c.AnyOf)
			}
		}
		walk(a.AllOf)
		walk(a.AnyOf)
	}
	return all
}
