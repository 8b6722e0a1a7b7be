package yaml

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"cloister/policy/spec"
)

const indentStep = 2 // columns

// Encode writes a specification as YAML that Parse reads back unchanged.
func Encode(s spec.Specification) []byte {
	return joinLines(objectLines(reflect.ValueOf(s)))
}

// Init returns the text of a new specification: all that can be decided before
// anybody has joined, with a word on each part.
func Init(name string, kind spec.Kind) []byte {
	network := ""
	if kind == spec.Simulated {
		network = "\n# Kind simulated protects nothing: it is for development."
	}
	return fmt.Appendf(nil, `# The specification of a clean room: what its parties agree may run, on whose
# data, and who gets the results. Nothing in here is secret.%s
apiVersion: %s
name: %s
kind: %s
model: %s

# Who has to agree.
parties: []

# What runs.
application: {}

# What it reads: sealed volumes, first of code, then of data.
code: []
datasources: []

# What it writes.
datasinks: []

# What it reaches.
network:
  egress: %s

# Whose record of consent and use is believed.
governance: {}

# Whose word about the platform is believed.
attestation: {}
`, network, spec.APIVersion, scalar(name), kind, spec.Monolithic, spec.EgressClosed)
}

func joinLines(lines []string) []byte {
	return []byte(strings.Join(lines, "\n") + "\n")
}

func objectLines(v reflect.Value) []string {
	var lines []string
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if strings.Contains(options, "omitempty") && isEmpty(v.Field(i)) {
			continue
		}
		lines = append(lines, fieldLines(name, v.Field(i))...)
	}
	return lines
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	default:
		return v.IsZero()
	}
}

// fieldLines returns the lines of one field, its name in the first column.
func fieldLines(name string, v reflect.Value) []string {
	name = scalar(name)
	switch v.Kind() {
	case reflect.Pointer:
		return fieldLines(name, v.Elem())
	case reflect.Struct:
		return under(name, objectLines(v), "{}")
	case reflect.Map:
		return under(name, mapLines(v), "{}")
	case reflect.Slice:
		return under(name, listLines(v), "[]")
	case reflect.Uint32:
		return []string{fmt.Sprintf("%s: %d", name, v.Uint())}
	default:
		return []string{name + ": " + scalar(v.String())}
	}
}

func under(name string, lines []string, empty string) []string {
	if len(lines) == 0 {
		return []string{name + ": " + empty}
	}
	return append([]string{name + ":"}, indent(indentStep, lines)...)
}

func mapLines(v reflect.Value) []string {
	var lines []string
	texts, _ := v.Interface().(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		lines = append(lines, scalar(name)+": "+scalar(texts[name]))
	}
	return lines
}

func listLines(v reflect.Value) []string {
	var lines []string
	for i := range v.Len() {
		lines = append(lines, itemLines(v.Index(i))...)
	}
	return lines
}

func itemLines(v reflect.Value) []string {
	switch v.Kind() {
	case reflect.String:
		return []string{"- " + scalar(v.String())}
	case reflect.Uint32:
		return []string{fmt.Sprintf("- %d", v.Uint())}
	}
	lines := indent(indentStep, objectLines(v))
	lines[0] = "- " + strings.TrimLeft(lines[0], " ")
	return lines
}

func indent(columns int, lines []string) []string {
	var out []string
	for _, line := range lines {
		out = append(out, strings.Repeat(" ", columns)+line)
	}
	return out
}

// plain are texts that mean themselves in every YAML reader, apart from the
// words below.
var (
	plain = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./@+=-]*(:[A-Za-z0-9_./@+=-]+)*$`)
	words = regexp.MustCompile(`(?i)^(true|false|yes|no|on|off|y|n|null|nan|inf)$`)
)

// scalar writes a text plain where that is safe and otherwise in double
// quotes, whose JSON escapes YAML shares.
func scalar(s string) string {
	if plain.MatchString(s) && !words.MatchString(s) {
		return s
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return `""`
	}
	return strings.TrimSuffix(out.String(), "\n")
}
