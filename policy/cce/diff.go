package cce

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"cloister/policy/release"
)

// compileAnchored is a pattern as the platform's framework matches it.
func compileAnchored(pattern string) (*regexp.Regexp, error) {
	return regexp.Compile(`^(?:` + strings.TrimSuffix(strings.TrimPrefix(pattern, "^"), "$") + `)$`)
}

// Diff compares two container policies by what they let in: containers by name,
// and in them the order of layers and arguments counts, that of variables,
// mounts, capabilities and groups does not. None means that the framework gives
// the same answers under both.
func Diff(first, second Policy) []release.Difference {
	var list []release.Difference
	say := func(what string, a, b any) {
		if reflect.DeepEqual(a, b) {
			return
		}
		list = append(list, release.Difference{OnlyIn: "first", What: what + " " + show(a)}, release.Difference{OnlyIn: "second", What: what + " " + show(b)})
	}
	say("api_version", first.APIVersion, second.APIVersion)
	say("framework_version", first.FrameworkVersion, second.FrameworkVersion)
	list = append(list, diffSets("fragment", fragmentTexts(first), fragmentTexts(second))...)
	for _, name := range union(first.Allow, second.Allow) {
		say(name, first.Allow[name], second.Allow[name])
	}
	for _, name := range union(first.Own, second.Own) {
		say(name+" decided by itself:", first.Own[name], second.Own[name])
	}
	return append(list, diffContainers(first.Containers, second.Containers)...)
}

func union[V any](a, b map[string]V) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

func fragmentTexts(p Policy) []string { return textsOf(p.Fragments) }

func textsOf[T any](list []T) (out []string) {
	for _, v := range list {
		out = append(out, show(v))
	}
	return out
}

// show is the JSON of a value made of texts, numbers, booleans and lists.
func show(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%v", v)
	}
	return string(raw)
}

func diffSets(what string, a, b []string) (list []release.Difference) {
	for _, side := range []struct {
		name      string
		has, lack []string
	}{{"first", a, b}, {"second", b, a}} {
		for _, text := range slices.Compact(slices.Sorted(slices.Values(side.has))) {
			if !slices.Contains(side.lack, text) {
				list = append(list, release.Difference{OnlyIn: side.name, What: what + " " + text})
			}
		}
	}
	return list
}

// diffContainers pairs containers of one name in their order.
func diffContainers(first, second []Container) (list []release.Difference) {
	a, b := byName(first), byName(second)
	for _, name := range union(a, b) {
		for i := range max(len(a[name]), len(b[name])) {
			at := "container " + name + ":"
			switch {
			case i >= len(a[name]):
				list = append(list, release.Difference{OnlyIn: "second", What: at + " the whole container"})
			case i >= len(b[name]):
				list = append(list, release.Difference{OnlyIn: "first", What: at + " the whole container"})
			default:
				list = append(list, diffContainer(at, a[name][i], b[name][i])...)
			}
		}
	}
	return list
}

// byName sorts containers of one name, which a policy may hold in any order.
func byName(list []Container) map[string][]Container {
	m := map[string][]Container{}
	for _, c := range list {
		m[c.Name] = append(m[c.Name], c)
	}
	for _, same := range m {
		slices.SortFunc(same, func(a, b Container) int { return strings.Compare(show(a.normal()), show(b.normal())) })
	}
	return m
}

// normal is the container with its sets in order, each member once.
func (c Container) normal() Container {
	c.EnvRules, c.Mounts, c.User.Groups = sortedSet(c.EnvRules), slices.Clone(c.Mounts), sortedSet(c.User.Groups)
	for i, m := range c.Mounts {
		c.Mounts[i].Options = slices.Sorted(slices.Values(m.Options))
	}
	c.Mounts = sortedSet(c.Mounts)
	c.Signals = sortedSet(c.Signals)
	c.ExecProcesses = sortedSet(c.ExecProcesses)
	if c.Capabilities != nil {
		caps := *c.Capabilities
		for _, set := range []*[]string{&caps.Ambient, &caps.Bounding, &caps.Effective, &caps.Inheritable, &caps.Permitted} {
			*set = sortedSet(*set)
		}
		c.Capabilities = &caps
	}
	return c
}

func sortedSet[T any](list []T) []T {
	out := append([]T{}, list...)
	slices.SortFunc(out, func(a, b T) int { return strings.Compare(show(a), show(b)) })
	return slices.CompactFunc(out, func(a, b T) bool { return show(a) == show(b) })
}

func diffContainer(at string, a, b Container) []release.Difference {
	a, b = a.normal(), b.normal()
	list := diffSets(at+" variable", textsOf(a.EnvRules), textsOf(b.EnvRules))
	list = append(list, diffSets(at+" mount", textsOf(a.Mounts), textsOf(b.Mounts))...)
	list = append(list, diffSets(at+" process", textsOf(a.ExecProcesses), textsOf(b.ExecProcesses))...)
	a.EnvRules, a.Mounts, a.ExecProcesses = b.EnvRules, b.Mounts, b.ExecProcesses
	// What is left, field by field, by the names in the text.
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range x.NumField() {
		left, right := show(x.Field(i).Interface()), show(y.Field(i).Interface())
		if left != right {
			name := at + " " + x.Type().Field(i).Tag.Get("json") + " "
			list = append(list, release.Difference{OnlyIn: "first", What: name + left}, release.Difference{OnlyIn: "second", What: name + right})
		}
	}
	return list
}
