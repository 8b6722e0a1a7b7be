package yaml

import (
	"bytes"
	"reflect"
	"regexp"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/spec"

	"github.com/goccy/go-yaml/ast"
)

// Append returns the document with item at the end of the list field of that
// name, other lines untouched. change makes the same change to the
// specification; the edited text must say exactly that.
func (d *Document) Append(list string, item any, change func(*spec.Specification)) (*Document, error) {
	e := editor{lines: splitLines(d.text)}
	lines := itemLines(reflect.ValueOf(item))
	section := e.find(d.root, 0, list)
	switch {
	case section == nil:
		e.insert(len(e.lines), append([]string{list + ":"}, indent(indentStep, lines)...))
	case e.open(section):
		e.insert(section.end, indent(indentStep, lines))
	default:
		seq, ok := section.field.Value.(*ast.SequenceNode)
		if !ok || seq.IsFlowStyle {
			return nil, byHand(section.start+1, list)
		}
		e.insert(section.end, indent(seq.Start.Position.Column-1, lines))
	}
	return d.edited(e, list, change)
}

// AppendIn is Append for a list in a section.
func (d *Document) AppendIn(section, list string, item any, change func(*spec.Specification)) (*Document, error) {
	e := editor{lines: splitLines(d.text)}
	s, err := e.entries(d.root, section, list)
	if err != nil {
		return nil, err
	}
	if s == nil {
		one := reflect.MakeSlice(reflect.SliceOf(reflect.TypeOf(item)), 0, 1)
		return d.Set(section, list, reflect.Append(one, reflect.ValueOf(item)).Interface(), change)
	}
	seq, ok := s.field.Value.(*ast.SequenceNode)
	if !ok || seq.IsFlowStyle {
		return nil, byHand(s.start+1, join(section, list))
	}
	e.insert(s.end, indent(seq.Start.Position.Column-1, itemLines(reflect.ValueOf(item))))
	return d.edited(e, join(section, list), change)
}

// entries returns the place of a section's list that has entries.
func (e *editor) entries(root *ast.MappingNode, name, list string) (*section, error) {
	outer := e.find(root, 0, name)
	if outer == nil || mapping(outer.field.Value) == nil {
		return nil, nil
	}
	m := mapping(outer.field.Value)
	s := e.find(m, outer.end, list)
	switch {
	case s == nil || s.field.Value.Type() == ast.NullType:
		return nil, nil
	case m.IsFlowStyle:
		return nil, byHand(outer.start+1, name)
	}
	if seq, ok := s.field.Value.(*ast.SequenceNode); ok && len(seq.Values) == 0 {
		return nil, nil
	}
	return s, nil
}

// Set returns the document with the field of a section, or of the top where
// section is "", holding value. An old value goes; a comment on its line stays.
func (d *Document) Set(section, field string, value any, change func(*spec.Specification)) (*Document, error) {
	e := editor{lines: splitLines(d.text)}
	lines := fieldLines(field, reflect.ValueOf(value))
	if section == "" {
		e.set(e.find(d.root, 0, field), lines, len(e.lines))
		return d.edited(e, field, change)
	}
	outer := e.find(d.root, 0, section)
	switch {
	case outer == nil:
		e.insert(len(e.lines), append([]string{section + ":"}, indent(indentStep, lines)...))
	case e.open(outer):
		e.insert(outer.end, indent(indentStep, lines))
	default:
		m := mapping(outer.field.Value)
		if m == nil || m.IsFlowStyle || len(m.Values) == 0 {
			return nil, byHand(outer.start+1, section)
		}
		column := m.Values[0].Key.GetToken().Position.Column - 1
		e.set(e.find(m, outer.end, field), indent(column, lines), outer.end)
	}
	return d.edited(e, section+"."+field, change)
}

// Remove returns the document without the field of a section, or of the top
// where section is ""; comments above it stay. A section that would be left
// with nothing in it goes too.
func (d *Document) Remove(section, field string, change func(*spec.Specification)) (*Document, error) {
	e := editor{lines: splitLines(d.text)}
	s, err := e.findIn(d.root, section, field)
	if err != nil {
		return nil, err
	}
	if s != nil {
		e.lines = append(e.lines[:s.start:s.start], e.lines[s.end:]...)
	}
	return d.edited(e, join(section, field), change)
}

// findIn is find for a field of a section.
func (e *editor) findIn(root *ast.MappingNode, name, field string) (*section, error) {
	if name == "" {
		return e.find(root, 0, field), nil
	}
	outer := e.find(root, 0, name)
	if outer == nil {
		return nil, nil
	}
	m := mapping(outer.field.Value)
	if m == nil {
		return nil, nil // an empty section
	}
	s := e.find(m, outer.end, field)
	switch {
	case s == nil:
		return nil, nil
	case m.IsFlowStyle:
		return nil, byHand(outer.start+1, name)
	case len(m.Values) == 1:
		return outer, nil
	default:
		return s, nil
	}
}

func (d *Document) edited(e editor, path string, change func(*spec.Specification)) (*Document, error) {
	after, err := Parse(joinLines(e.lines))
	want := d.clone()
	change(&want)
	if err != nil || !sameMeaning(after.Spec, want) {
		return nil, byHand(d.Line(path), path)
	}
	return after, nil
}

// clone returns a copy that change may alter without touching the document.
func (d *Document) clone() spec.Specification {
	again, err := Parse(d.text)
	if err != nil {
		return spec.Specification{}
	}
	return again.Spec
}

func sameMeaning(a, b spec.Specification) bool {
	x, err := a.Canonical()
	if err != nil {
		return false
	}
	y, err := b.Canonical()
	return err == nil && bytes.Equal(x, y)
}

func byHand(line int, path string) error {
	return fault.Errorf(fault.Usage, "write the field on lines of its own, as cloister spec show does, or change it by hand",
		"line %d: %s is written in a way that cannot be changed without losing its layout", line, path)
}

// editor changes a file's lines.
type editor struct{ lines []string }

// section is a field's place: lines start up to, not including, end, counted
// from 0, without the blank lines and comments that precede what follows.
type section struct {
	field      *ast.MappingValueNode
	start, end int
}

func splitLines(text []byte) []string {
	s := strings.TrimRight(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
	return strings.Split(s, "\n")
}

// find returns the place of a field in m, which ends at the line end, or at
// the file's end when that is 0.
func (e *editor) find(m *ast.MappingNode, end int, name string) *section {
	if end == 0 {
		end = len(e.lines)
	}
	for i, field := range m.Values {
		if found, ok := fieldName(field); !ok || found != name {
			continue
		}
		if i+1 < len(m.Values) {
			end = lineOf(m.Values[i+1].Key) - 1
		}
		s := &section{field: field, start: lineOf(field.Key) - 1, end: end}
		for s.end > s.start+1 && isAside(e.lines[s.end-1]) {
			s.end--
		}
		return s
	}
	return nil
}

func isAside(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || strings.HasPrefix(line, "#") || line == "..." || line == "---"
}

var emptyValue = regexp.MustCompile(`^([A-Za-z]+:)\s*(\[\s*\]|\{\s*\})?\s*(#.*)?$`)

// open makes an empty field ready for lines below it and reports whether it
// was one.
func (e *editor) open(s *section) bool {
	switch v := s.field.Value.(type) {
	case *ast.NullNode:
	case *ast.SequenceNode:
		if len(v.Values) > 0 {
			return false
		}
	case *ast.MappingNode:
		if len(v.Values) > 0 {
			return false
		}
	default:
		return false
	}
	parts := emptyValue.FindStringSubmatch(e.lines[s.start])
	if parts == nil {
		return false
	}
	e.lines[s.start] = strings.TrimRight(parts[1]+" "+parts[3], " ")
	return true
}

// set puts lines in place of a field, or at a line when there is none.
func (e *editor) set(old *section, lines []string, at int) {
	if old == nil {
		e.insert(at, lines)
		return
	}
	if comment := old.field.Value.GetComment(); comment != nil && old.end == old.start+1 {
		lines[0] += " " + strings.TrimSpace(comment.String())
	}
	rest := append(lines, e.lines[old.end:]...)
	e.lines = append(e.lines[:old.start:old.start], rest...)
}

func (e *editor) insert(at int, lines []string) {
	rest := append(lines, e.lines[at:]...)
	e.lines = append(e.lines[:at:at], rest...)
}
