package spec

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write schema.json again")

type object = map[string]any

// TestSchema holds: schema.json is what the types and the rules below say. It
// is written again by go test ./policy/spec -run TestSchema -update
func TestSchema(t *testing.T) {
	want := makeSchema(t)
	if *update {
		if err := os.WriteFile("schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if Schema() != string(want) {
		t.Error("schema.json is not what the types say; go test ./policy/spec -run TestSchema -update")
	}
}

func makeSchema(t *testing.T) []byte {
	g := generator{t: t, defs: object{}, words: words(t), used: map[string]bool{}}
	root := g.object(reflect.TypeFor[Specification]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Cloister clean room specification"
	root["$defs"] = g.defs
	for field := range fieldRules {
		if !g.used[field] {
			t.Errorf("there is a rule for %s, and no such field", field)
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// generator makes one definition of each struct type.
type generator struct {
	t     *testing.T
	defs  object
	words map[string]string // by "Type" and "Type.Field", what the code says of it
	used  map[string]bool
}

func (g *generator) object(typ reflect.Type) object {
	properties, required := object{}, []string{}
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		optional := options == "omitempty"
		key := typ.Name() + "." + f.Name
		if !optional || fieldRules[key]["minItems"] != nil {
			required = append(required, name)
		}
		properties[name] = g.field(key, f.Type, optional)
	}
	o := object{"type": "object", "additionalProperties": false, "properties": properties, "required": required}
	if text := g.words[typ.Name()]; text != "" {
		o["description"] = text
	}
	for k, v := range typeRules[typ.Name()] {
		o[k] = v
	}
	return o
}

// field is a property: what its type says, and the rule for it.
func (g *generator) field(key string, typ reflect.Type, optional bool) object {
	rule := fieldRules[key]
	g.used[key] = rule != nil
	s := g.value(typ)
	into := s
	if typ.Kind() == reflect.Slice {
		into, _ = s["items"].(object)
		s["maxItems"] = maxItems
	}
	if typ.Kind() == reflect.Map {
		s["maxProperties"] = maxItems
		into = s
	}
	for k, v := range rule {
		if k == "minItems" || k == "uniqueItems" {
			s[k] = v
			continue
		}
		into[k] = v
	}
	if optional {
		s = mayBeAbsent(s, typ)
	}
	if text := g.words[key]; text != "" {
		s["description"] = text
	}
	return s
}

// mayBeAbsent: an optional text may be written as "", a list or mapping as
// nothing.
func mayBeAbsent(s object, typ reflect.Type) object {
	switch {
	case typ.Kind() == reflect.String && (s["enum"] != nil || s["pattern"] != nil):
		return object{"anyOf": []any{object{"const": ""}, s}}
	case typ.Kind() == reflect.Pointer, (typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map) && s["minItems"] == nil:
		return object{"anyOf": []any{object{"type": "null"}, s}}
	case typ.Kind() == reflect.Uint32 && s["minimum"] != nil:
		return object{"anyOf": []any{object{"const": 0}, s}}
	default:
		return s
	}
}

func (g *generator) value(typ reflect.Type) object {
	switch typ.Kind() {
	case reflect.Pointer:
		return g.value(typ.Elem())
	case reflect.Struct:
		if g.defs[typ.Name()] == nil {
			g.defs[typ.Name()] = object{} // no type contains itself
			g.defs[typ.Name()] = g.object(typ)
		}
		return object{"$ref": "#/$defs/" + typ.Name()}
	case reflect.Slice:
		return object{"type": "array", "items": g.value(typ.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": object{"type": "string", "pattern": plainText, "maxLength": maxText}}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Uint32:
		return object{"type": "integer", "maximum": uint32(1<<32 - 1)}
	default:
		g.t.Fatalf("the schema knows no %s", typ)
		return nil
	}
}

// words returns what the package's comments say of its types and fields.
func words(t *testing.T) map[string]string {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no sources: %v", err)
	}
	out := map[string]string{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if decl, ok := n.(*ast.GenDecl); ok && decl.Tok == token.TYPE {
				addWords(out, decl)
			}
			return true
		})
	}
	return out
}

func addWords(out map[string]string, decl *ast.GenDecl) {
	spec, ok := decl.Specs[0].(*ast.TypeSpec)
	if !ok {
		return
	}
	fields, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	out[spec.Name.Name] = oneLine(decl.Doc.Text())
	for _, f := range fields.Fields.List {
		text := f.Doc.Text() + " " + f.Comment.Text()
		for _, name := range f.Names {
			out[spec.Name.Name+"."+name.Name] = oneLine(text)
		}
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// TestSchemaNamesWhatTheCodeDoes holds: the values that the schema lists are
// those that Validate takes, by trying each and one more.
func TestSchemaNamesWhatTheCodeDoes(t *testing.T) {
	tries := 0
	for key, rule := range fieldRules {
		values, ok := rule["enum"].([]any)
		if !ok {
			continue
		}
		for _, value := range append(values, "no-such-word") {
			tries++
			known := value != "no-such-word"
			if got := wordIsKnown(t, key, fmt.Sprint(value)); got != known {
				t.Errorf("%s %v: Validate knows it: %v, the schema lists it: %v", key, value, got, known)
			}
		}
	}
	if tries < 20 {
		t.Fatalf("%d values were tried", tries)
	}
}

// wordIsKnown puts a word in every field of that type and name.
func wordIsKnown(t *testing.T, key, word string) bool {
	s := example(t)
	distributed(&s)
	put(reflect.ValueOf(&s).Elem(), key, word)
	for _, p := range s.Problems() {
		if strings.Contains(p.Reason, fmt.Sprintf("%q is not known", word)) {
			return false
		}
	}
	return true
}

func put(v reflect.Value, key, word string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			put(v.Elem(), key, word)
		}
	case reflect.Slice:
		for i := range v.Len() {
			put(v.Index(i), key, word)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Name()+"."+v.Type().Field(i).Name == key {
				v.Field(i).SetString(word)
				continue
			}
			put(v.Field(i), key, word)
		}
	}
}
