package release

import (
	"slices"
	"strings"
)

// Equal reports whether two policies admit the same tokens by the same
// conditions, however they are written: order inside a group, repetitions,
// groups of one, groups inside a group of their own kind and the authority's
// last slash do not count. Policies that differ otherwise are unequal even
// where logic could show that they admit the same.
func Equal(a, b Policy) bool {
	return a.normal().text == b.normal().text
}

// normal is a condition in the one form that all its spellings share.
type normal struct {
	text  string
	group string // "allOf" or "anyOf"; "" for a statement
	parts []string
}

func (p Policy) normal() normal {
	var authorities []normal
	for _, a := range p.Authorities {
		address, err := normalAuthority(a.URL)
		if err != nil {
			address = a.URL
		}
		conditions := Condition{AllOf: a.AllOf, AnyOf: a.AnyOf}.normal()
		authorities = append(authorities, normal{text: string(encode(address)) + conditions.text})
	}
	return newGroup("anyOf", authorities)
}

func (c Condition) normal() normal {
	switch {
	case c.Claim != "":
		return c.statement()
	case len(c.AllOf) > 0 && len(c.AnyOf) > 0:
		return normal{text: "invalid" + string(encode(c.json()))}
	case len(c.AllOf) > 0:
		return newGroup("allOf", normals(c.AllOf))
	default:
		return newGroup("anyOf", normals(c.AnyOf))
	}
}

func normals(conditions []Condition) []normal {
	var list []normal
	for _, c := range conditions {
		list = append(list, c.normal())
	}
	return list
}

// statement quotes every text, so that no claim or value can look like the
// structure around it. A boolean and its text admit the same.
func (c Condition) statement() normal {
	c.Value.bool = false
	return normal{text: string(encode(c.json()))}
}

func newGroup(group string, members []normal) normal {
	var parts []string
	for _, m := range members {
		if m.group == group {
			parts = append(parts, m.parts...)
			continue
		}
		parts = append(parts, m.text)
	}
	slices.Sort(parts)
	parts = slices.Compact(parts)
	if len(parts) == 1 {
		return single(parts[0], members)
	}
	return normal{text: group + "[" + strings.Join(parts, ",") + "]", group: group, parts: parts}
}

// single returns the member that a group of one stands for.
func single(text string, members []normal) normal {
	i := slices.IndexFunc(members, func(m normal) bool { return m.text == text })
	if i < 0 {
		return normal{text: text}
	}
	return members[i]
}
