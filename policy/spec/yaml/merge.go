package yaml

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/spec"
)

// Part is what one party wrote, with the name of its file.
type Part struct {
	Name string
	*Document
}

// Merge joins parts into one specification; their order has no meaning. What
// only one part says is taken; what several say must be the same:
//
//   - a field of the top, and of the sections network, governance, attestation,
//     runtime and deployment, for itself;
//   - the application, and each entry of a list of named things, as a whole: a
//     field that one party left out is one it did not want;
//   - witnesses are joined, since each party may name its own.
//
// All conflicts come at once, as spec.Problems of kind fault.Conflict with file
// and line, and so does what the parts make wrong together. The result may
// still be incomplete: see its Problems.
func Merge(parts []Part) (spec.Specification, error) {
	m := merger{parts: parts, holder: map[string]int{}}
	for i, part := range parts {
		m.lines = append(m.lines, part.namedLines())
		sorted := part.Spec.Sorted()
		m.fields("", reflect.ValueOf(&m.merged).Elem(), reflect.ValueOf(sorted), i)
	}
	merged := m.merged.Sorted()
	if len(m.conflicts) > 0 {
		return merged, fault.Errorf(fault.Conflict, "", "%w", m.conflicts)
	}
	return merged, m.contradictions(merged).Err()
}

// merger joins the parts one after the other.
type merger struct {
	parts     []Part
	lines     []map[string]int // of each part, by path with names for indexes
	merged    spec.Specification
	holder    map[string]int // which part said first what merged has at a path
	conflicts spec.Problems
}

func (m *merger) fields(path string, into, from reflect.Value, part int) {
	for i, name := range jsonFields(from.Type()) {
		m.value(join(path, name), into.Field(i), from.Field(i), part)
	}
}

func (m *merger) value(path string, into, from reflect.Value, part int) {
	switch {
	case isEmpty(from):
	case isSection(path):
		m.section(path, into, from, part)
	case from.Kind() == reflect.Slice && isSet(path):
		m.set(path, into, from, part)
	case isEmpty(into):
		into.Set(from)
		m.holder[path] = part
	default:
		m.compare(path, into, from, part)
	}
}

func isSection(path string) bool {
	return slices.Contains([]string{"network", "governance", "attestation", "runtime", "deployment"}, path)
}

func isSet(path string) bool {
	return slices.Contains([]string{"parties", "identities", "code", "datasources", "datasinks", "endpoints", "governance.witnesses", "deployment.registries"}, path)
}

func (m *merger) section(path string, into, from reflect.Value, part int) {
	if from.Kind() == reflect.Pointer {
		if into.IsNil() {
			into.Set(reflect.New(into.Type().Elem()))
		}
		into, from = into.Elem(), from.Elem()
	}
	m.fields(path, into, from, part)
}

// set adds the entries that are not there yet. The list is copied first: it
// may be a part's own.
func (m *merger) set(path string, into, from reflect.Value, part int) {
	list := reflect.AppendSlice(reflect.MakeSlice(into.Type(), 0, into.Len()), into)
	for i := range from.Len() {
		e := from.Index(i)
		at := fmt.Sprintf("%s[%s]", path, keyOf(e))
		first, there := m.holder[at]
		if !there {
			list = reflect.Append(list, e)
			m.holder[at] = part
			continue
		}
		for j := range list.Len() {
			if keyOf(list.Index(j)) == keyOf(e) {
				m.compareWith(at, list.Index(j), e, first, part)
				break
			}
		}
	}
	into.Set(list)
}

// keyOf returns what tells an entry of a set from the others.
func keyOf(e reflect.Value) string {
	switch known := e.Interface().(type) {
	case string:
		return known
	case spec.Registry:
		return known.Server
	default:
		return e.FieldByName("Name").String()
	}
}

func (m *merger) compare(path string, a, b reflect.Value, part int) {
	m.compareWith(path, a, b, m.holder[path], part)
}

func (m *merger) compareWith(path string, a, b reflect.Value, first, part int) {
	if a.Kind() == reflect.Pointer && !a.IsNil() && !b.IsNil() {
		a, b = a.Elem(), b.Elem()
	}
	switch {
	case reflect.DeepEqual(a.Interface(), b.Interface()):
	case a.Kind() == reflect.Struct:
		for i, name := range jsonFields(a.Type()) {
			m.compareWith(join(path, name), a.Field(i), b.Field(i), first, part)
		}
	case isEmpty(a) && isEmpty(b):
	default:
		m.conflict(path, a, b, first, part)
	}
}

func (m *merger) conflict(path string, a, b reflect.Value, first, part int) {
	m.conflicts = append(m.conflicts, spec.Problem{
		File: m.parts[part].Name, Line: nearest(m.lines[part], path), Path: path,
		Reason: fmt.Sprintf("%s here, %s in %s line %d", said(path, b), said(path, a), m.parts[first].Name, nearest(m.lines[first], path)),
		Remedy: "agree on one, and write it in both or take it out of one",
	})
}

// said shows a value where that helps; what programs are given may be long, and
// may be what should not have been written.
func said(path string, v reflect.Value) string {
	switch {
	case isEmpty(v):
		return "nothing"
	case strings.HasPrefix(path, "application.") && v.Kind() != reflect.Uint32:
		return "one"
	case v.Kind() == reflect.String:
		return fmt.Sprintf("%.80q", v.String())
	case v.Kind() == reflect.Uint32:
		return fmt.Sprint(v.Uint())
	default:
		return "one"
	}
}

// entry is how a reason points to another entry of the document.
var entry = regexp.MustCompile(`[a-z]+\[[0-9]+\]`)

// contradictions are what keeps the merged specification from being valid,
// apart from what it still lacks, each with the part that says it.
func (m *merger) contradictions(merged spec.Specification) spec.Problems {
	var out spec.Problems
	for _, p := range merged.Problems() {
		if p.Missing {
			continue
		}
		path := named(merged, p.Path)
		for i, lines := range m.lines {
			if line := nearest(lines, path); line > 0 {
				p.File, p.Line = m.parts[i].Name, line
				break
			}
		}
		p.Path = path
		p.Reason = entry.ReplaceAllStringFunc(p.Reason, func(at string) string { return named(merged, at) })
		out = append(out, p)
	}
	return out
}

// namedLines returns the document's lines by paths with names for indexes.
func (d *Document) namedLines() map[string]int {
	lines := map[string]int{}
	for path, line := range d.lines {
		lines[named(d.Spec, path)] = line
	}
	return lines
}

// named returns a path with the entry's name for its index, which differs from
// part to part: datasources[1].mount is datasources[records].mount.
func named(s spec.Specification, path string) string {
	list, rest, ok := strings.Cut(path, "[")
	index, rest, _ := strings.Cut(rest, "]")
	if !ok || !isSet(list) {
		return path
	}
	v := reflect.ValueOf(s)
	for name := range strings.SplitSeq(list, ".") {
		v = reflect.Indirect(v)
		i, _ := jsonField(v.Type(), name)
		v = v.Field(i)
	}
	var i int
	if _, err := fmt.Sscan(index, &i); err != nil || i >= v.Len() {
		return path
	}
	return list + "[" + keyOf(v.Index(i)) + "]" + rest
}
