package template

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"cloister/internal/fault"
)

// Resource is one thing that a template deploys, as the platform's API takes it.
type Resource struct {
	APIVersion, Kind, Name string
	Body                   map[string]any
}

// Resources returns what a template deploys, in the order in which it is made.
// location is the region of container groups. A text that is no template, or says
// what only a deployment service could evaluate, is of kind fault.Usage.
func (t Template) Resources(location string) ([]Resource, error) {
	list, err := t.resources(location)
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "generate it again with `cloister deploy template`", "reading %s: %w", t.Name, err)
	}
	return list, nil
}

func (t Template) resources(location string) (list []Resource, err error) {
	v, err := t.read(t.Text)
	if err != nil {
		return nil, err
	}
	if t.Name == Kubernetes {
		return objects(v)
	}
	group, _ := v.(map[string]any)
	all, _ := group["resources"].([]any)
	for _, r := range all {
		copies, err := copiesOf(r, location)
		if err != nil {
			return nil, err
		}
		list = append(list, copies...)
	}
	if list == nil {
		return nil, fmt.Errorf("it deploys nothing")
	}
	return list, nil
}

func objects(v any) (list []Resource, err error) {
	documents, _ := v.([]any)
	for _, d := range documents {
		body, _ := d.(map[string]any)
		meta, _ := body["metadata"].(map[string]any)
		r := Resource{Body: body}
		r.APIVersion, _ = body["apiVersion"].(string)
		r.Kind, _ = body["kind"].(string)
		if r.Name, _ = meta["name"].(string); r.Name == "" || r.Kind == "" || r.APIVersion == "" {
			return nil, fmt.Errorf("a document of it has no apiVersion, kind or name")
		}
		list = append(list, r)
	}
	return list, nil
}

// copiesOf evaluates a resource of a deployment template, for each of its copies.
func copiesOf(v any, location string) (list []Resource, err error) {
	r, _ := v.(map[string]any)
	count := int64(1)
	if c, ok := r["copy"].(map[string]any); ok {
		if count, err = whole(c["count"]); err != nil {
			return nil, err
		}
	}
	for i := range count {
		body, err := evaluate(r, location, i)
		if err != nil {
			return nil, err
		}
		one := Resource{Body: maps.Clone(body.(map[string]any))}
		one.APIVersion, _ = one.Body["apiVersion"].(string)
		one.Kind, _ = one.Body["type"].(string)
		if one.Name, _ = one.Body["name"].(string); one.Name == "" || one.Kind == "" || one.APIVersion == "" {
			return nil, fmt.Errorf("a resource of it has no apiVersion, type or name")
		}
		for _, ofTheTemplate := range []string{"apiVersion", "type", "name", "copy"} {
			delete(one.Body, ofTheTemplate)
		}
		list = append(list, one)
	}
	return list, nil
}

// maxReplicas is the specification's own bound (policy/spec).
const maxReplicas = 1024

func whole(v any) (int64, error) {
	n, err := strconv.ParseInt(fmt.Sprint(v), 10, 64)
	if err != nil || n < 1 || n > maxReplicas {
		return 0, fmt.Errorf("%.40q copies are not 1 to %d", fmt.Sprint(v), maxReplicas)
	}
	return n, nil
}

// evaluate does what a deployment would with every text of a value: of the
// template language, what arm writes.
func evaluate(v any, location string, index int64) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			e, err := evaluate(v[k], location, index)
			if err != nil {
				return nil, err
			}
			out[k] = e
		}
		return out, nil
	case []any:
		out := []any{}
		for _, e := range v {
			e, err := evaluate(e, location, index)
			if err != nil {
				return nil, err
			}
			out = append(out, e)
		}
		return out, nil
	case string:
		return evaluateText(v, location, index)
	}
	return v, nil
}

func evaluateText(s, location string, index int64) (string, error) {
	if !strings.HasPrefix(s, "[") || !strings.HasSuffix(s, "]") {
		return s, nil
	}
	inside := s[1 : len(s)-1]
	name, isName := strings.CutPrefix(inside, "format('")
	name, replicated := strings.CutSuffix(name, "-{0}', copyIndex())")
	switch {
	case strings.HasPrefix(inside, "["): // a text in brackets
		return s[1:], nil
	case inside == "parameters('location')":
		return location, nil
	case inside == "string(copyIndex())":
		return strconv.FormatInt(index, 10), nil
	case isName && replicated && !strings.ContainsAny(name, "'{"):
		return fmt.Sprintf("%s-%d", name, index), nil
	}
	return "", fmt.Errorf("the expression %.80q is none that a template here has", s)
}
