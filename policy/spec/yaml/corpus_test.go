package yaml

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cloister/policy/spec"

	goyaml "github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// TestSchemaAndDecoderAgree holds: of every file of the corpus the published
// schema and this package give the same verdict. Each invalid file is wrong in
// one way, and its first line says where. What is in beyond-schema needs more
// than a document's form to be seen: there the schema sees nothing.
func TestSchemaAndDecoderAgree(t *testing.T) {
	schema := compileSchema(t)
	for dir, tc := range map[string]struct{ schema, decoder bool }{
		"valid": {true, true}, "invalid": {false, false}, "beyond-schema": {true, false},
	} {
		files, err := filepath.Glob(filepath.Join("testdata", "corpus", dir, "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files in corpus %s (%v): the test looked at nothing", dir, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := schemaSays(schema, text); (err == nil) != tc.schema {
				t.Errorf("%s: the schema says %v", file, err)
			}
			_, err = Load(text)
			if (err == nil) != tc.decoder {
				t.Errorf("%s: the decoder says %v", file, err)
			}
			if err != nil {
				wrongInOneWay(t, file, string(text), err)
			}
		}
	}
}

func wrongInOneWay(t *testing.T, file, text string, err error) {
	first, _, _ := strings.Cut(text, "\n")
	path, ok := strings.CutPrefix(first, "# refused: ")
	var problems spec.Problems
	if !ok || !errors.As(err, &problems) || len(problems) != 1 {
		t.Errorf("%s: not wrong in one way, or it does not say in which: %v", file, err)
		return
	}
	if p := problems[0]; p.Path != path || p.Reason == "" || p.Remedy == "" || p.Line == 0 && strings.Contains(text, "\n"+path+":") {
		t.Errorf("%s: got %+v, want a problem of %s with line, reason and remedy", file, p, path)
	}
}

func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(spec.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("specification.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("specification.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// schemaSays reads YAML as an editor does, without the decoder's help.
func schemaSays(schema *jsonschema.Schema, text []byte) error {
	asJSON, err := goyaml.YAMLToJSON(text)
	if err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(asJSON)))
	if err != nil {
		return err
	}
	return schema.Validate(doc)
}

// TestSchemaAdmitsWhatIsValid holds: what this package finds valid the schema
// admits too, so an editor never marks what will be accepted. It puts odd texts
// and numbers into every field of the corpus's valid specifications.
func TestSchemaAdmitsWhatIsValid(t *testing.T) {
	schema, all := compileSchema(t), wholes(t)
	tried, valid := 0, 0
	for _, whole := range all[:2] { // aci and aks, which have every field
		for n := range leaves(whole) {
			for i, text := range oddTexts {
				tried++
				s, number := clone(t, whole), oddNumbers[i%len(oddNumbers)]
				setLeaf(reflect.ValueOf(&s).Elem(), n, text, number)
				if s.Validate() != nil {
					continue
				}
				valid++
				canonical, err := s.Canonical()
				if err != nil {
					t.Fatal(err)
				}
				if err := schemaSays(schema, canonical); err != nil {
					t.Errorf("valid with %q or %d in field %d, and the schema refuses it: %v", text, number, n, err)
				}
			}
		}
	}
	if tried < 5000 || valid < 200 {
		t.Fatalf("%d tried, %d of them valid: too few", tried, valid)
	}
}

var (
	oddTexts = []string{"", "a", "A", "a.b", "a_b", "-", "/", "/a b", "/a/b", "/a//b", "/mnt/é", "x y", "tab\tx", "a/b.rego", "localhost", "10.0.0.1", "::1", "fe80::1",
		"https://x", "HTTPS://x", "https://X.example:1/", "https://x//", "https://x/a b", "https://é.example/é", "https://x:port", "https://x/?", "https://x#",
		"http://127.0.0.1:1/x", "http://localhost", "http://[::1]:80/a", "http://[::ffff:127.0.0.1]", "http://127.1", "https://x/secrets/a", "https://x/secrets/a/", "HTTP://localhost/secrets/a"}
	oddNumbers = []uint32{0, 1, 65535, 65536, 1<<32 - 1}
)

func clone(t *testing.T, s spec.Specification) (again spec.Specification) {
	canonical, err := s.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(canonical, &again); err != nil {
		t.Fatal(err)
	}
	return again
}

// leaves counts the texts and numbers of a specification.
func leaves(s spec.Specification) int {
	const beyond = 1 << 30
	return beyond - setLeaf(reflect.ValueOf(&s).Elem(), beyond, "", 0)
}

// setLeaf sets the n-th text or number and returns what is left of n.
func setLeaf(v reflect.Value, n int, text string, number uint32) int {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			n = setLeaf(v.Elem(), n, text, number)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			n = setLeaf(v.Field(i), n, text, number)
		}
	case reflect.Slice:
		for i := range v.Len() {
			n = setLeaf(v.Index(i), n, text, number)
		}
	case reflect.String:
		if n == 0 {
			v.SetString(text)
		}
		return n - 1
	case reflect.Uint32:
		if n == 0 {
			v.SetUint(uint64(number))
		}
		return n - 1
	}
	return n
}
