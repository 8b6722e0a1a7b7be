package yaml

import (
	"fmt"
	"strings"
	"testing"

	"cloister/policy/spec"

	"pgregory.net/rapid"
)

// TestEditsKeepComments holds: wherever comments stand on lines of their own or
// behind an entry, an addition and a change of another field keep every one of
// them, in their order, and change the meaning by exactly what was asked.
func TestEditsKeepComments(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(string(read(t, "corpus/valid/aks.yaml"))), "\n")
	rapid.Check(t, func(t *rapid.T) {
		text, comments := commented(t, lines)
		d := mustParse(t, []byte(text))
		party := spec.Party{Name: "third", SigningKey: "k"}
		addParty := func(s *spec.Specification) { s.Parties = append(s.Parties, party) }
		sink := spec.Sink{Name: "more", Party: "third", Recipients: []string{"lab"}}
		addSink := func(s *spec.Specification) { s.DataSinks = append(s.DataSinks, sink) }
		floor := func(s *spec.Specification) { s.Attestation.MinSVN = 200 }
		want := d.Spec
		for _, step := range rapid.Permutation([]string{"party", "sink", "floor"}).Draw(t, "steps") {
			var err error
			switch step {
			case "party":
				d, err = d.Append("parties", party, addParty)
			case "sink":
				d, err = d.Append("datasinks", sink, addSink)
			default:
				d, err = d.Set("attestation", "minSVN", uint32(200), floor)
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", step, err, text)
			}
		}
		rest := string(d.Text())
		for _, c := range comments {
			i := strings.Index(rest, c)
			if i < 0 {
				t.Fatalf("%s is lost or out of order in\n%s", c, d.Text())
			}
			rest = rest[i+len(c):]
		}
		addParty(&want)
		addSink(&want)
		floor(&want)
		if !sameMeaning(d.Spec, want) {
			t.Fatalf("the edits say something else:\n%s", d.Text())
		}
	})
}

// commented puts comments between and behind the lines of a file.
func commented(t *rapid.T, lines []string) (text string, comments []string) {
	var b strings.Builder
	for _, line := range lines {
		next := func() string {
			c := fmt.Sprintf("# remark %03d.", len(comments))
			comments = append(comments, c)
			return c
		}
		if rapid.IntRange(0, 9).Draw(t, "above") == 0 {
			indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
			b.WriteString(indent + next() + "\n")
		}
		b.WriteString(line)
		if rapid.IntRange(0, 9).Draw(t, "behind") == 0 && line != "" && !strings.HasSuffix(line, ":") {
			b.WriteString(" " + next())
		}
		b.WriteString("\n")
	}
	return b.String(), comments
}
