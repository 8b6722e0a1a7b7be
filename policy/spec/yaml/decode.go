package yaml

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"cloister/policy/spec"

	"github.com/goccy/go-yaml/ast"
)

// decoder fills the specification's structs and collects what does not fit.
// It knows the few shapes they are made of: structs, lists, a map of texts,
// texts and numbers.
type decoder struct {
	problems spec.Problems
	lines    map[string]int
}

func (d *decoder) add(node ast.Node, path, reason, remedy string) {
	d.problems = append(d.problems, spec.Problem{Line: lineOf(node), Path: path, Reason: reason, Remedy: remedy})
}

func (d *decoder) value(path string, node ast.Node, v reflect.Value) {
	if _, empty := node.(*ast.NullNode); empty && v.Kind() != reflect.String && v.Kind() != reflect.Uint32 {
		return // as if the field were not there
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(path, node, v.Elem())
	case reflect.Struct:
		if m := mapping(node); m != nil {
			d.object(path, m, v)
			return
		}
		d.add(node, path, "is "+describe(node)+", not a mapping", "write its fields on lines below, as name: value")
	case reflect.Slice:
		d.list(path, node, v)
	case reflect.Map:
		d.texts(path, node, v)
	case reflect.Uint32:
		d.number(path, node, v)
	default:
		d.text(path, node, v)
	}
}

// fields calls each for every field of a mapping that is given once, by its name.
func (d *decoder) fields(path string, m *ast.MappingNode, each func(name, at string, field *ast.MappingValueNode)) {
	seen := map[string]int{}
	for _, field := range m.Values {
		name, ok := fieldName(field)
		at := join(path, name)
		line := lineOf(field.Key)
		first, twice := seen[name]
		switch {
		case !ok:
			d.add(field.Key, path, "has a field whose name is not a plain text", "write fields as name: value")
		case twice:
			d.add(field.Key, at, fmt.Sprintf("is given twice, first on line %d", first), "take one of them out")
		default:
			seen[name], d.lines[at] = line, line
			each(name, at, field)
		}
	}
}

func fieldName(field *ast.MappingValueNode) (string, bool) {
	key, ok := field.Key.(*ast.StringNode)
	if !ok {
		return field.Key.String(), false
	}
	return key.Value, true
}

func (d *decoder) object(path string, m *ast.MappingNode, v reflect.Value) {
	d.fields(path, m, func(name, at string, field *ast.MappingValueNode) {
		index, known := jsonField(v.Type(), name)
		if !known {
			d.add(field.Key, at, "is not a known field", "known here: "+strings.Join(jsonFields(v.Type()), ", "))
			return
		}
		d.value(at, field.Value, v.Field(index))
	})
}

func (d *decoder) list(path string, node ast.Node, v reflect.Value) {
	seq, ok := node.(*ast.SequenceNode)
	if !ok {
		d.add(node, path, "is "+describe(node)+", not a list", "write each entry on a line below, after a hyphen")
		return
	}
	list := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, item := range seq.Values {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.lines[at] = lineOf(item)
		if m := mapping(item); m != nil && len(m.Values) > 0 {
			d.lines[at] = lineOf(m.Values[0].Key)
		}
		if item.Type() == ast.NullType {
			d.add(item, at, "is empty", "write the entry after the hyphen, or take the hyphen out")
			continue
		}
		d.value(at, item, list.Index(i))
	}
	if list.Len() > 0 {
		v.Set(list)
	}
}

func (d *decoder) texts(path string, node ast.Node, v reflect.Value) {
	m := mapping(node)
	if m == nil {
		d.add(node, path, "is "+describe(node)+", not a mapping", "write each variable on a line below, as NAME: value")
		return
	}
	texts := reflect.MakeMap(v.Type())
	d.fields(path, m, func(name, at string, field *ast.MappingValueNode) {
		text := reflect.New(v.Type().Elem()).Elem()
		d.value(at, field.Value, text)
		texts.SetMapIndex(reflect.ValueOf(name), text)
	})
	if texts.Len() > 0 {
		v.Set(texts)
	}
}

func (d *decoder) text(path string, node ast.Node, v reflect.Value) {
	switch n := node.(type) {
	case *ast.StringNode:
		v.SetString(n.Value)
	case *ast.LiteralNode:
		v.SetString(n.Value.Value)
	case *ast.NullNode:
		d.add(node, path, "is empty", "write a value, or take the field out")
	default:
		d.add(node, path, "is "+describe(node)+", not a text", "put it in double quotes")
	}
}

func (d *decoder) number(path string, node ast.Node, v reflect.Value) {
	if n, ok := node.(*ast.IntegerNode); ok {
		text := n.GetToken().Value
		number, err := strconv.ParseUint(text, 10, 32)
		// One spelling only: 010 is eight in some readers and ten in others.
		if err == nil && strconv.FormatUint(number, 10) == text {
			v.SetUint(number)
			return
		}
	}
	d.add(node, path, "is "+describe(node)+", not a plain number", "write decimal digits, at most 4294967295")
}

func describe(node ast.Node) string {
	switch node.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "a mapping"
	case ast.SequenceType:
		return "a list"
	case ast.StringType, ast.LiteralType:
		return "a text"
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		return "a number"
	case ast.BoolType:
		return "true or false"
	case ast.NullType:
		return "empty"
	default:
		return "something else"
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// jsonField returns the index of the field that the canonical form calls name.
func jsonField(t reflect.Type, name string) (int, bool) {
	for i, known := range jsonFields(t) {
		if known == name {
			return i, true
		}
	}
	return 0, false
}

func jsonFields(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}
