// Package yaml reads, writes and edits a specification as the parties see it.
// It belongs to the owner's tool; the runtime reads the canonical form alone,
// so that no YAML parser is in the trusted base.
//
// Life of a file: Parse builds the syntax tree and decodes it strictly, noting
// each field's line; what does not fit the form is returned all at once.
// Problems adds what does not hold together. Append and Set change the lines of
// one entry in the text, so that comments and layout stay, and check by parsing
// the result that the text now says exactly what was meant.
package yaml

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/spec"

	goyaml "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
)

// maxSize bounds a file, in bytes; hundreds of volumes fit.
const maxSize = 256 << 10

// Document is a specification with the text it was read from.
type Document struct {
	Spec  spec.Specification
	text  []byte
	root  *ast.MappingNode
	lines map[string]int // by path, "datasources[1].mount"
}

// Parse reads a file. An unknown field, a field given twice, a value of another
// type and syntax beyond plain YAML are reported all at once, with lines, as
// spec.Problems of kind fault.Usage. The document may still be incomplete or
// contradictory: see Problems.
func Parse(text []byte) (*Document, error) {
	root, err := parseRoot(text)
	if err != nil {
		return nil, err
	}
	d := decoder{lines: map[string]int{}}
	var s spec.Specification
	d.object("", root, reflect.ValueOf(&s).Elem())
	if err := d.problems.Err(); err != nil {
		return nil, err
	}
	return &Document{Spec: s, text: bytes.Clone(text), root: root, lines: d.lines}, nil
}

// Load reads a file that must be complete and valid.
func Load(text []byte) (spec.Specification, error) {
	d, err := Parse(text)
	if err != nil {
		return spec.Specification{}, err
	}
	return d.Spec, d.Problems().Err()
}

// Text returns the file's bytes.
func (d *Document) Text() []byte { return bytes.Clone(d.text) }

// Problems returns everything that keeps the specification from being valid,
// each with the line of its field or of the nearest one around it; what has no
// line, because it is not there at all, comes last.
func (d *Document) Problems() spec.Problems {
	problems := d.Spec.Problems()
	for i, p := range problems {
		problems[i].Line = d.Line(p.Path)
	}
	order := func(p spec.Problem) int {
		if p.Line == 0 {
			return math.MaxInt
		}
		return p.Line
	}
	slices.SortStableFunc(problems, func(a, b spec.Problem) int { return cmp.Compare(order(a), order(b)) })
	return problems
}

// Line returns the line of a field, or of the nearest one around it; 0 when
// there is none.
func (d *Document) Line(path string) int { return nearest(d.lines, path) }

func nearest(lines map[string]int, path string) int {
	for path != "" {
		if line, ok := lines[path]; ok {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 0
}

func parseRoot(text []byte) (*ast.MappingNode, error) {
	if len(text) > maxSize {
		return nil, single(0, fmt.Sprintf("the file has %d bytes", len(text)), fmt.Sprintf("at most %d are allowed", maxSize))
	}
	tokens := lexer.Tokenize(string(text))
	if err := checkTokens(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, parser.ParseComments, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntaxError(err)
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType && doc.Body.Type() != ast.NullType {
			bodies = append(bodies, doc.Body)
		}
	}
	if len(bodies) != 1 {
		return nil, single(0, fmt.Sprintf("the file holds %d documents", len(bodies)), "a specification is one document; begin with cloister spec init")
	}
	root := mapping(bodies[0])
	if root == nil {
		return nil, single(lineOf(bodies[0]), "the document is not a mapping", "write fields as name: value")
	}
	return root, nil
}

func syntaxError(err error) error {
	var at goyaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		return single(at.GetToken().Position.Line, at.GetMessage(), "")
	}
	return fault.Errorf(fault.Usage, "write it as cloister spec init does", "reading YAML: %w", err)
}

func single(line int, reason, remedy string) error {
	return spec.Problems{{Line: line, Reason: reason, Remedy: remedy}}.Err()
}

// mapping returns node as a mapping; the parser gives a mapping of one field
// as that field.
func mapping(node ast.Node) *ast.MappingNode {
	switch n := node.(type) {
	case *ast.MappingNode:
		return n
	case *ast.MappingValueNode:
		return &ast.MappingNode{BaseNode: &ast.BaseNode{}, Start: n.Start, Values: []*ast.MappingValueNode{n}}
	default:
		return nil
	}
}

func lineOf(node ast.Node) int {
	if t := node.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}
