// Package vectors reads and writes golden test vectors: one file a vector, one
// rule kept or broken in each, under testdata/vectors.
//
// Life of a vector: a test that can make it makes it again on every run, from
// fixed keys, and Compare holds it against the file, byte for byte; a test that
// reads gets it from Load, which fails where there are none, and does what the
// vector expects. After a deliberate change,
//
//	go test ./fs/format -run Vectors -update
//
// writes the files, and the difference is reviewed like code.
//
// A file is lines of "key: value", an empty line, and then the bytes the vector
// is about. A key may occur more than once. Every vector has
//
//	rule     what it is about, and the section of FORMAT.md that says so
//	expect   "accepted" or "refused"
//	refusal  if refused: the class of the error
//	says     if refused: words that the error must have, naming the rule
//
// and what its kind needs beside: keys and ids in hexadecimal.
package vectors

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the test vectors instead of comparing them")

const suffix = ".vector"

// Vector is one test vector.
type Vector struct {
	Name   string // of the file, without suffix
	fields []field
	Body   []byte
}

type field struct{ key, value string }

// Set adds a field. Keys and values are one line each.
func (v *Vector) Set(key, format string, args ...any) *Vector {
	v.fields = append(v.fields, field{key, fmt.Sprintf(format, args...)})
	return v
}

// All returns the values of a key, in order.
func (v *Vector) All(key string) (values []string) {
	for _, f := range v.fields {
		if f.key == key {
			values = append(values, f.value)
		}
	}
	return values
}

// Get returns the value of a key that occurs once, or "".
func (v *Vector) Get(key string) string { return strings.Join(v.All(key), "\n") }

// Hex decodes the value of a key into bytes.
func (v *Vector) Hex(t testing.TB, key string) []byte {
	t.Helper()
	b, err := hex.DecodeString(v.Get(key))
	if err != nil || len(b) == 0 {
		t.Fatalf("%s: %s is not hexadecimal: %v", v.Name, key, err)
	}
	return b
}

// Check compares the outcome of reading the vector with what it expects.
// refusals are the classes of error by name.
func (v *Vector) Check(t testing.TB, err error, refusals map[string]error, is func(err, class error) bool) {
	t.Helper()
	switch expect, class := v.Get("expect"), v.Get("refusal"); {
	case expect == "accepted":
		if err != nil {
			t.Errorf("%s (%s): refused: %v", v.Name, v.Get("rule"), err)
		}
	case expect != "refused" || refusals[class] == nil || v.Get("says") == "":
		t.Fatalf("%s: expects %q, refusal %q, saying %q: the vector tests nothing", v.Name, expect, class, v.Get("says"))
	case err == nil:
		t.Errorf("%s: %s: accepted", v.Name, v.Get("rule"))
	case !is(err, refusals[class]) || !strings.Contains(err.Error(), v.Get("says")):
		t.Errorf("%s: %s: refused with %q; want %s, saying %q", v.Name, v.Get("rule"), err, class, v.Get("says"))
	}
}

func (v *Vector) encode() []byte {
	var b bytes.Buffer
	for _, f := range v.fields {
		fmt.Fprintf(&b, "%s: %s\n", f.key, f.value)
	}
	b.WriteByte('\n')
	b.Write(v.Body)
	return b.Bytes()
}

func decode(name string, data []byte) (v Vector, err error) {
	head, body, ok := bytes.Cut(data, []byte("\n\n"))
	if !ok {
		return v, fmt.Errorf("%s has no empty line", name)
	}
	v = Vector{Name: name, Body: body}
	for line := range strings.Lines(string(head)) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok {
			return v, fmt.Errorf("%s: %q is not a field", name, line)
		}
		v.fields = append(v.fields, field{key, value})
	}
	return v, nil
}

// Load returns the vectors of a kind, which is a directory below testdata/vectors.
// There must be some.
func Load(t testing.TB, kind string) []Vector {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(dir(t), kind, "*"+suffix))
	if len(files) == 0 {
		t.Fatalf("there are no vectors of kind %s: the test tests nothing", kind)
	}
	vectors := make([]Vector, 0, len(files))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		v, err := decode(strings.TrimSuffix(filepath.Base(file), suffix), data)
		if err != nil {
			t.Fatal(err)
		}
		vectors = append(vectors, v)
	}
	return vectors
}

// Compare fails unless the vectors of a kind are exactly those made. With
// -update it writes them instead.
func Compare(t *testing.T, kind string, made []Vector) {
	t.Helper()
	at := filepath.Join(dir(t), kind)
	if *update {
		write(t, at, made)
	}
	var names []string
	for _, v := range made {
		names = append(names, v.Name+suffix)
		if data, err := os.ReadFile(filepath.Join(at, v.Name+suffix)); err != nil || !bytes.Equal(data, v.encode()) {
			t.Errorf("vector %s/%s differs from what is made today (%v); if that is meant, run with -update and review the difference", kind, v.Name, err)
		}
	}
	entries, err := os.ReadDir(at)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(names, e.Name()) {
			t.Errorf("vector %s/%s is not made by anything", kind, e.Name())
		}
	}
	if len(names) != len(slices.Compact(slices.Sorted(slices.Values(names)))) {
		t.Errorf("two vectors of kind %s have one name", kind)
	}
}

func write(t *testing.T, at string, made []Vector) {
	t.Helper()
	if err := os.RemoveAll(at); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, v := range made {
		if err := os.WriteFile(filepath.Join(at, v.Name+suffix), v.encode(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// dir returns testdata/vectors of the module that the test is in.
func dir(t testing.TB) string {
	t.Helper()
	at, err := os.Getwd()
	for ; err == nil && at != filepath.Dir(at); at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return filepath.Join(at, "testdata", "vectors")
		}
	}
	t.Fatalf("there is no go.mod above the test (%v)", err)
	return ""
}
