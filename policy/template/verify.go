package template

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/internal/strictjson"

	"sigs.k8s.io/yaml"
)

// A container's policy is by far the most of a template; ACI takes 120 KB of it.
var limits = strictjson.Limits{Size: 4 << 20, Depth: 64}

// Verify holds a file against the template that it should be, by what it says
// rather than how it is spelled. The error, of kind fault.Refused, names every
// field that differs; of kind fault.Usage where the file is no template at all.
func (t Template) Verify(have []byte) error {
	want, err := t.read(t.Text)
	if err != nil {
		return fmt.Errorf("reading the generated %s: %w", t.Name, err)
	}
	got, err := t.read(have)
	if err != nil {
		return fault.Errorf(fault.Usage, "generate it again with `cloister deploy template`", "reading %s: %w", t.Name, err)
	}
	list := differences("", want, got)
	if list == nil {
		return nil
	}
	return fault.Errorf(fault.Refused, "do not deploy it; change the specification and generate it again", "%s is not the specification's: %s", t.Name, strings.Join(list, "; "))
}

// read returns a template's values; of a manifest a list of documents.
func (t Template) read(text []byte) (any, error) {
	if t.Name == ARM {
		return strictjson.Parse(text, limits)
	}
	if len(text) > limits.Size {
		return nil, fmt.Errorf("%d bytes, more than %d", len(text), limits.Size)
	}
	var list []any
	for _, document := range split(text) {
		asJSON, err := yaml.YAMLToJSONStrict(document)
		if err != nil {
			return nil, err
		}
		v, err := strictjson.Parse(asJSON, limits)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// split cuts at every line that begins with three dashes, as Kubernetes does.
func split(text []byte) [][]byte {
	text = bytes.TrimPrefix(text, []byte(separator))
	return bytes.Split(text, []byte("\n---"))
}

// differences names where two values differ, in a fixed order.
func differences(at string, want, have any) (list []string) {
	switch want := want.(type) {
	case map[string]any:
		if have, ok := have.(map[string]any); ok {
			return inObject(at, want, have)
		}
	case []any:
		if have, ok := have.([]any); ok {
			return inList(at, want, have)
		}
	default:
		if want == have {
			return nil
		}
	}
	return []string{fmt.Sprintf("%s is %s, and should be %s", cmp.Or(at, "it"), short(have), short(want))}
}

func inObject(at string, want, have map[string]any) (list []string) {
	all := maps.Clone(want)
	maps.Copy(all, have)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		w, wanted := want[key]
		h, there := have[key]
		at := strings.TrimPrefix(at+"."+key, ".")
		switch {
		case !there:
			list = append(list, at+" is missing")
		case !wanted:
			list = append(list, fmt.Sprintf("%s was added: %s", at, short(h)))
		default:
			list = append(list, differences(at, w, h)...)
		}
	}
	return list
}

func inList(at string, want, have []any) (list []string) {
	for i := range max(len(want), len(have)) {
		at := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case i >= len(have):
			list = append(list, at+" is missing")
		case i >= len(want):
			list = append(list, fmt.Sprintf("%s was added: %s", at, short(have[i])))
		default:
			list = append(list, differences(at, want[i], have[i])...)
		}
	}
	return list
}

// short shows a value of a stranger's, quoted.
func short(v any) string { return fmt.Sprintf("%.100q", fmt.Sprint(v)) }
