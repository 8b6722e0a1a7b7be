package yaml

import (
	"errors"
	"os"
	"path/filepath"
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
