package yaml

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cloister/internal/fault"
	"cloister/policy/spec"

	"pgregory.net/rapid"
)

func part(t testing.TB, name, text string) Part {
	return Part{Name: name, Document: parse(t, []byte(text))}
}

// wholes are the specifications that the property tests take apart.
func wholes(t testing.TB) []spec.Specification {
	files, err := filepath.Glob(filepath.Join("testdata", "corpus", "valid", "*.yaml"))
	if err != nil || len(files) < 3 {
		t.Fatalf("%d valid files in the corpus (%v)", len(files), err)
	}
	var all []spec.Specification
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Load(text)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, s)
	}
	return all
}

// TestMergeProperties holds: a specification that was taken apart, each piece
// given to one party or to several, comes together again whatever the order of
// the parts and however they are grouped.
func TestMergeProperties(t *testing.T) {
	all := wholes(t)
	rapid.Check(t, func(t *rapid.T) {
		whole := rapid.SampledFrom(all).Draw(t, "whole")
		parts := takeApart(t, whole)
		want, _ := whole.Digest()
		once, err := Merge(parts)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := once.Digest(); got != want {
			t.Fatalf("merged:\n%s\nwhole:\n%s", Encode(once), Encode(whole))
		}
		shuffled := rapid.Permutation(parts).Draw(t, "order")
		again, err := Merge(shuffled)
		if err != nil || !bytes.Equal(Encode(again), Encode(once)) {
			t.Fatalf("another order gives something else: %v\n%s", err, Encode(again))
		}
		cut := rapid.IntRange(1, len(parts)).Draw(t, "cut")
		left, right := join2(t, shuffled[:cut]), join2(t, shuffled[cut:])
		grouped, err := Merge([]Part{right, left})
		if err != nil || !bytes.Equal(Encode(grouped), Encode(once)) {
			t.Fatalf("another grouping gives something else: %v\n%s", err, Encode(grouped))
		}
	})
}

// join2 merges some parts into one; what they say of each other's parties is
// still open then, so only conflicts count.
func join2(t *rapid.T, parts []Part) Part {
	merged, err := Merge(parts)
	if fault.KindOf(err) == fault.Conflict {
		t.Fatal(err)
	}
	return Part{Name: "group", Document: mustParse(t, Encode(merged))}
}

func mustParse(t *rapid.T, text []byte) *Document {
	d, err := Parse(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return d
}

// takeApart gives each piece of a specification to one part or more.
func takeApart(t *rapid.T, whole spec.Specification) []Part {
	specs := make([]spec.Specification, rapid.IntRange(1, 4).Draw(t, "parties"))
	takers := func() []int {
		return rapid.SliceOfNDistinct(rapid.IntRange(0, len(specs)-1), 1, len(specs), rapid.ID[int]).Draw(t, "takers")
	}
	deal("", reflect.ValueOf(whole), func(give func(into reflect.Value)) {
		for _, i := range takers() {
			give(reflect.ValueOf(&specs[i]).Elem())
		}
	})
	var parts []Part
	for i, s := range specs {
		parts = append(parts, Part{Name: fmt.Sprint("part", i), Document: mustParse(t, Encode(s))})
	}
	return parts
}

// deal calls to once for each piece that Merge knows; give puts the piece into
// another specification.
func deal(path string, from reflect.Value, to func(give func(into reflect.Value))) {
	for i, name := range jsonFields(from.Type()) {
		f, at := from.Field(i), join(path, name)
		switch {
		case isSection(at) && f.Kind() == reflect.Pointer && f.IsNil():
		case isSection(at):
			deal(at, reflect.Indirect(f), func(give func(reflect.Value)) {
				to(func(into reflect.Value) { give(inside(into.Field(i))) })
			})
		case isSet(at):
			for j := range f.Len() {
				to(func(into reflect.Value) { into.Field(i).Set(reflect.Append(into.Field(i), f.Index(j))) })
			}
		default:
			to(func(into reflect.Value) { into.Field(i).Set(f) })
		}
	}
}

func inside(v reflect.Value) reflect.Value {
	if v.Kind() != reflect.Pointer {
		return v
	}
	if v.IsNil() {
		v.Set(reflect.New(v.Type().Elem()))
	}
	return v.Elem()
}

func TestMergeListsConflicts(t *testing.T) {
	base := string(read(t, "example.yaml"))
	_, err := Merge([]Part{
		part(t, "hospital.yaml", base),
		part(t, "lab.yaml", strings.NewReplacer("name: study", "name: other", "mount: /mnt/data", "mount: /mnt/elsewhere", "- --all", "- --some",
			"    recipients:\n      - lab\n", "", "minSVN: 1", "minSVN: 2", "GREETING: \"a: b", "GREETING: \"c: d").Replace(base)),
		part(t, "more.yaml", "network:\n  egress: list\n"),
	})
	var problems spec.Problems
	if !errors.As(err, &problems) || fault.KindOf(err) != fault.Conflict {
		t.Fatal(err)
	}
	want := []string{
		`lab.yaml line 3: name: "other" here, "study" in hospital.yaml line 3`,
		`lab.yaml line 23: application.command: one here, one in hospital.yaml line 23`,
		`lab.yaml line 27: application.environment: one here, one in hospital.yaml line 27`,
		`lab.yaml line 50: datasources[records].mount: "/mnt/elsewhere" here, "/mnt/data" in hospital.yaml line 50`,
		`lab.yaml line 58: datasinks[report].recipients: nothing here, one in hospital.yaml line 67`,
		`lab.yaml line 79: attestation.minSVN: 2 here, 1 in hospital.yaml line 81`,
		`more.yaml line 2: network.egress: "list" here, "closed" in hospital.yaml line 71`,
	}
	if len(problems) != len(want) {
		t.Errorf("%d conflicts, want %d", len(problems), len(want))
	}
	for i, p := range problems {
		if i < len(want) && !strings.HasPrefix(p.String(), want[i]) {
			t.Errorf("got  %s\nwant %s", p, want[i])
		}
	}
}

// TestMergeFindsContradictions holds: parts that are each in order, and are not
// together, are refused with the file that says it.
func TestMergeFindsContradictions(t *testing.T) {
	base := string(read(t, "example.yaml"))
	other := strings.NewReplacer("name: records", "name: others", "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a", "0d0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a", "mount: /mnt/data", "mount: /mnt/data/more").Replace(base)
	_, err := Merge([]Part{part(t, "a.yaml", base), part(t, "b.yaml", other)})
	var problems spec.Problems
	if !errors.As(err, &problems) || fault.KindOf(err) != fault.Usage || len(problems) != 1 {
		t.Fatal(err)
	}
	if got := problems[0].String(); !strings.HasPrefix(got, `a.yaml line 50: datasources[records].mount: "/mnt/data" overlaps datasources[others].mount`) {
		t.Error(got)
	}
}
