package yaml

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"cloister/internal/fault"
	"cloister/policy/spec"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func parse(t testing.TB, text []byte) *Document {
	t.Helper()
	d, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// exampleDigest is what the same specification has in package cce's tests: a
// change of it is a change of the format, which breaks every container policy.
const exampleDigest = "sha256:b793d6260ceceb4b1921ada404d0505503a6dbad31be7f9afa6b19a5fb0daea8"

func TestExample(t *testing.T) {
	s, err := Load(read(t, "example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Digest(); got != exampleDigest {
		t.Errorf("digest %s, want %s", got, exampleDigest)
	}
	if s.Application.Environment["GREETING"] != "a: b # no comment" || s.Application.User.UID != 1000 {
		t.Errorf("application = %+v", s.Application)
	}
}

// TestEveryFieldRoundTrips holds: what Encode writes of a specification with
// every kind of field reads back with the same digest.
func TestEveryFieldRoundTrips(t *testing.T) {
	for _, name := range []string{"aks", "aci"} {
		s, err := Load(read(t, filepath.Join("corpus", "valid", name+".yaml")))
		if err != nil {
			t.Fatal(err)
		}
		back, err := Load(Encode(s))
		if err != nil || !reflect.DeepEqual(back, s) {
			t.Errorf("%s: %v\n%s", name, err, Encode(s))
		}
	}
}

func TestDigestIgnoresFormatting(t *testing.T) {
	got, err := Load(read(t, "reformatted.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if digest, _ := got.Digest(); digest != exampleDigest {
		t.Errorf("digest %s, want %s", digest, exampleDigest)
	}
}

func TestEncodeRoundTrip(t *testing.T) {
	s := parse(t, read(t, "example.yaml")).Spec
	s.Application.Command = append(s.Application.Command, "", " ", "yes", "0x10", "1e3", "~", "- x", "a: b", "a #b", "'", `"\`, "&a", "*a", "!t",
		"@", "`", "%", "[", "{", "?", "|", ">", "<é>", "tr:ue", "a:", "null", ".inf", "012", "2001-01-01", "=", "<<", "---", "...")
	s.Application.Environment["on"] = "off"
	back := parse(t, Encode(s)).Spec
	if !reflect.DeepEqual(back, s) {
		t.Errorf("round trip:\n%s\ngot  %+v\nwant %+v", Encode(s), back, s)
	}
}

func TestParseReportsEverythingWithLines(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want []string // "line path reason"
	}{
		{"nme: x\nkind: 7\nname: a\nname: b\n", []string{"1 nme not a known field", "2 kind a number, not a text", "4 name given twice, first on line 3"}},
		{"parties:\n  - name: a\n    key: x\n  - b\n  -\n", []string{"3 parties[0].key not a known field", "4 parties[1] a text, not a mapping", "5 parties[2] is empty"}},
		{"parties: a\nruntime: [1]\nname:\n", []string{"1 parties a text, not a list", "2 runtime a list, not a mapping", "3 name is empty"}},
		{"attestation:\n  minSVN: 010\n", []string{"2 attestation.minSVN not a plain number"}},
		{"attestation: {minSVN: -1}\n", []string{"1 attestation.minSVN not a plain number"}},
		{"attestation: {minSVN: \"1\"}\n", []string{"1 attestation.minSVN a text, not a plain number"}},
		{"attestation: {minSVN: 4294967296}\n", []string{"1 attestation.minSVN not a plain number"}},
		{"application:\n  command: [a, 1, true, 2.5]\n  environment:\n    A: 1\n    A: x\n", []string{
			"2 application.command[1] a number, not a text", "2 application.command[2] true or false, not a text", "2 application.command[3] a number, not a text",
			"4 application.environment.A a number, not a text", "5 application.environment.A given twice"}},
		{"application:\n  environment: [A]\n", []string{"2 application.environment a list, not a mapping"}},
		{"name: &a x\n", []string{"1  anchors, aliases"}},
		{"kind: a\nname: *a\n", []string{"2  anchors, aliases"}},
		{"name: !!str x\n", []string{"1  anchors, aliases"}},
		{"? name\n: x\n", []string{"1  anchors, aliases"}},
		{"application:\n  <<: {name: x}\n", []string{"2  anchors, aliases"}},
		{"1: x\n", []string{"1  not a plain text"}},
		{"a\n", []string{"1  not a mapping"}},
		{"", []string{"0  0 documents"}},
		{"# only this\n", []string{"0  0 documents"}},
		{"name: a\n---\nname: b\n", []string{"0  2 documents"}},
		{"name: [\n", []string{"1  "}},
		{"name: a\n  b: c\n", []string{"1  "}},
	} {
		_, err := Parse([]byte(tc.in))
		var problems spec.Problems
		if !errors.As(err, &problems) || fault.KindOf(err) != fault.Usage || len(problems) != len(tc.want) {
			t.Errorf("Parse(%q) = %v, want %q", tc.in, err, tc.want)
			continue
		}
		for i, want := range tc.want {
			parts := strings.SplitN(want, " ", 3)
			got := problems[i]
			line, path, reason := parts[0], parts[1], parts[2]
			if strconv.Itoa(got.Line) != line || got.Path != path || !strings.Contains(got.Reason, reason) {
				t.Errorf("Parse(%q): got %d %s %q, want %q", tc.in, got.Line, got.Path, got.Reason, want)
			}
		}
	}
}

func TestProblemsHaveLines(t *testing.T) {
	text := strings.NewReplacer(
		"mount: /mnt/data", "mount: mnt/data",
		"party: hospital", "party: nobody",
		"egress: closed", "egress: open",
		"minSVN: 1", "minSVN: 0",
		"name: lab\n", "name: hospital\n",
	).Replace(string(read(t, "example.yaml")))
	d := parse(t, []byte(text))
	problems := d.Problems()
	lines := strings.Split(text, "\n")
	for path, content := range map[string]string{
		"datasources[0].mount": "mnt/data", "datasources[0].party": "nobody", "network.egress": "open",
		"attestation.minSVN": "minSVN: 0", "parties[1].name": "hospital",
	} {
		found := false
		for _, p := range problems {
			if p.Path == path {
				found = p.Line > 0 && strings.Contains(lines[p.Line-1], content) && p.Remedy != ""
			}
		}
		if !found {
			t.Errorf("no problem with the line of %s in\n%v", path, problems)
		}
	}
}

func TestLimits(t *testing.T) {
	for name, in := range map[string]string{
		"long":       "name: " + strings.Repeat("x", maxSize),
		"deep flow":  "parties: " + strings.Repeat("[", maxSize-100),
		"deep block": strings.Repeat("- ", maxSize/2-1),
		"deep maps":  strings.Repeat("{a: ", maxSize/4-1),
		"stairs":     stairs(600),
	} {
		if _, err := Parse([]byte(in)); err == nil || fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %.100v", name, err)
		}
	}
}

func stairs(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestInit(t *testing.T) {
	d := parse(t, Init("on", spec.Simulated))
	if d.Spec.Name != "on" || d.Spec.Kind != spec.Simulated {
		t.Errorf("%+v", d.Spec)
	}
	for _, p := range d.Problems() {
		if !p.Missing || p.Line == 0 && p.Path != "runtime" {
			t.Errorf("a new specification has a problem that is not something missing, or has no line: %v", p)
		}
	}
}

func TestEditsKeepEverythingElse(t *testing.T) {
	party := spec.Party{Name: "c", SigningKey: "k"}
	add := func(s *spec.Specification) { s.Parties = append(s.Parties, party) }
	for _, tc := range []struct{ name, in, want string }{
		{"no list", "name: a\n", "name: a\nparties:\n  - name: c\n    signingKey: k\n"},
		{"empty list", "# head\nparties: []  # who\n\n# next\nname: a\n", "# head\nparties: # who\n  - name: c\n    signingKey: k\n\n# next\nname: a\n"},
		{"nothing", "parties:\nname: a\n", "parties:\n  - name: c\n    signingKey: k\nname: a\n"},
		{"list", "parties:\n  - name: a # first\n    signingKey: b\n  # about c\n\n# next\nname: a # end\n", "parties:\n  - name: a # first\n    signingKey: b\n  - name: c\n    signingKey: k\n  # about c\n\n# next\nname: a # end\n"},
		{"flush list", "parties:\n- name: a\n  signingKey: b\nname: a", "parties:\n- name: a\n  signingKey: b\n- name: c\n  signingKey: k\nname: a\n"},
		{"last", "name: a\nparties:\n    - name: a\n      signingKey: b", "name: a\nparties:\n    - name: a\n      signingKey: b\n    - name: c\n      signingKey: k\n"},
		{"crlf", "name: a\r\nparties: []\r\n", "name: a\nparties:\n  - name: c\n    signingKey: k\n"},
	} {
		d, err := parse(t, []byte(tc.in)).Append("parties", party, add)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if got := string(d.Text()); got != tc.want {
			t.Errorf("%s:\ngot\n%s\nwant\n%s", tc.name, got, tc.want)
		}
	}
}

func TestSet(t *testing.T) {
	for _, tc := range []struct{ name, in, section, field, want string }{
		{"new section", "name: a\n", "attestation", "authority", "name: a\nattestation:\n  authority: https://x\n"},
		{"empty section", "attestation: {} # who\nname: a\n", "attestation", "authority", "attestation: # who\n  authority: https://x\nname: a\n"},
		{"new field", "attestation:\n    minSVN: 1 # floor\n# n\nname: a\n", "attestation", "authority", "attestation:\n    minSVN: 1 # floor\n    authority: https://x\n# n\nname: a\n"},
		{"old field", "attestation:\n  # the service\n  authority: old # why\n  minSVN: 1\n", "attestation", "authority", "attestation:\n  # the service\n  authority: https://x # why\n  minSVN: 1\n"},
		{"folded field", "attestation:\n  authority: >-\n    old\n  minSVN: 1\n", "attestation", "authority", "attestation:\n  authority: https://x\n  minSVN: 1\n"},
		{"top", "# k\nkind: aci # cloud\nname: a\n", "", "kind", "# k\nkind: https://x # cloud\nname: a\n"},
		{"top new", "name: a\n", "", "kind", "name: a\nkind: https://x\n"},
	} {
		d, err := parse(t, []byte(tc.in)).Set(tc.section, tc.field, "https://x", func(s *spec.Specification) {
			if tc.section == "" {
				s.Kind = "https://x"
				return
			}
			s.Attestation.Authority = "https://x"
		})
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if got := string(d.Text()); got != tc.want {
			t.Errorf("%s:\ngot\n%s\nwant\n%s", tc.name, got, tc.want)
		}
	}
	d, err := parse(t, []byte("application:\n  command:\n    - old\n    # why\n    - words\n  name: x\n")).Set("application", "command", []string{"/a", "-b"},
		func(s *spec.Specification) { s.Application.Command = []string{"/a", "-b"} })
	if want := "application:\n  command:\n    - /a\n    - \"-b\"\n  name: x\n"; err != nil || string(d.Text()) != want {
		t.Errorf("list: %v\n%s", err, d.Text())
	}
}

func TestRemove(t *testing.T) {
	drop := func(s *spec.Specification) { s.Runtime = nil }
	d, err := parse(t, []byte("name: a\n\n# why\nruntime:\n  binary: b\n\n# next\nkind: aci\n")).Remove("", "runtime", drop)
	if want := "name: a\n\n# why\n\n# next\nkind: aci\n"; err != nil || string(d.Text()) != want {
		t.Errorf("%v\n%s", err, d.Text())
	}
	if d, err = d.Remove("", "runtime", drop); err != nil {
		t.Errorf("what is not there cannot be removed twice: %v", err)
	}
}

func TestAppendInASection(t *testing.T) {
	registry := spec.Registry{Server: "b.example", Secret: "pull"}
	add := func(s *spec.Specification) {
		if s.Deployment == nil {
			s.Deployment = &spec.Deployment{}
		}
		s.Deployment.Registries = append(s.Deployment.Registries, registry)
	}
	const added = "    - server: b.example\n      secret: pull\n"
	for in, want := range map[string]string{
		"name: a\n":                                    "name: a\ndeployment:\n  registries:\n" + added,
		"deployment: {} # d\nname: a\n":                "deployment: # d\n  registries:\n" + added + "name: a\n",
		"deployment:\n  replicas: 2 # two\n":           "deployment:\n  replicas: 2 # two\n  registries:\n" + added,
		"deployment:\n  registries: [] # r\nname: a\n": "deployment:\n  registries: # r\n" + added + "name: a\n",
		"deployment:\n  registries:\n  replicas: 2\n":  "deployment:\n  registries:\n" + added + "  replicas: 2\n",
		"deployment:\n  # ours\n  registries: # r\n    # first\n    - server: a.example # s\n      secret: x\n  # n\n  replicas: 2\n": "deployment:\n  # ours\n  registries: # r\n    # first\n    - server: a.example # s\n      secret: x\n" + added + "  # n\n  replicas: 2\n",
	} {
		d, err := parse(t, []byte(in)).AppendIn("deployment", "registries", registry, add)
		if err != nil || string(d.Text()) != want {
			t.Errorf("%q: %v\n%s", in, err, d.Text())
		}
	}
	for _, in := range []string{"deployment: {registries: [{server: a.example}]}\n", "deployment:\n  registries: [{server: a.example}]\n"} {
		if _, err := parse(t, []byte(in)).AppendIn("deployment", "registries", registry, add); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestRemoveOfASection(t *testing.T) {
	drop := func(s *spec.Specification) { s.Network.Proxy = "" }
	for in, want := range map[string]string{
		"network: # n\n  egress: closed\n  # why\n  proxy: open # p\nname: a\n": "network: # n\n  egress: closed\n  # why\nname: a\n",
		"network:\n  proxy: open\nname: a\n":                                    "name: a\n",
		"network: {egress: closed}\n":                                           "network: {egress: closed}\n",
		"network: {}\n":                                                         "network: {}\n",
		"name: a\n":                                                             "name: a\n",
	} {
		d, err := parse(t, []byte(in)).Remove("network", "proxy", drop)
		if err != nil || string(d.Text()) != want {
			t.Errorf("%q: %v\n%s", in, err, d.Text())
		}
	}
	if _, err := parse(t, []byte("network: {egress: closed, proxy: open}\n")).Remove("network", "proxy", drop); fault.KindOf(err) != fault.Usage {
		t.Errorf("a field on a line with others: %v", err)
	}
}

func TestEditRefusesWhatItCannotKeep(t *testing.T) {
	party := spec.Party{Name: "c", SigningKey: "k"}
	add := func(s *spec.Specification) { s.Parties = append(s.Parties, party) }
	for name, in := range map[string]string{
		"flow list":  "parties: [{name: a, signingKey: b}]\n",
		"flow file":  "{name: a, parties: []}\n",
		"two a line": "parties: [\n]\nname: a\n",
	} {
		if d, err := parse(t, []byte(in)).Append("parties", party, add); err == nil || fault.KindOf(err) != fault.Usage || len(fault.Hints(err)) == 0 {
			t.Errorf("%s: %v, %v", name, d, err)
		}
	}
	if _, err := parse(t, []byte("attestation: {minSVN: 1}\n")).Set("attestation", "authority", "x", func(s *spec.Specification) { s.Attestation.Authority = "x" }); err == nil {
		t.Error("a section on one line was changed")
	}
	d := parse(t, []byte("name: a\n"))
	if _, err := d.Append("parties", party, func(*spec.Specification) {}); err == nil {
		t.Error("an edit that says something else than was meant went through")
	}
}

// FuzzParse holds: no bytes make the reader panic; what it accepts survives
// being written and read, and an edit of it either is refused or says what
// was meant.
func FuzzParse(f *testing.F) {
	f.Add(read(f, "example.yaml"))
	f.Add(read(f, "reformatted.yaml"))
	f.Add(Init("x", spec.ACI))
	for _, name := range []string{"aks", "aci", "nothings"} {
		f.Add(read(f, filepath.Join("corpus", "valid", name+".yaml")))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse(text)
		if err != nil {
			return
		}
		d.Problems()
		canonical, err := d.Spec.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(Encode(d.Spec))
		if err != nil {
			t.Fatalf("%v\n%s", err, Encode(d.Spec))
		}
		if other, _ := again.Spec.Canonical(); !bytes.Equal(canonical, other) {
			t.Fatalf("not the same after a round trip:\n%s\n%s", canonical, other)
		}
		edited, err := d.Append("parties", spec.Party{Name: "zz"}, func(s *spec.Specification) { s.Parties = append(s.Parties, spec.Party{Name: "zz"}) })
		if err == nil && len(edited.Spec.Parties) != len(d.Spec.Parties)+1 {
			t.Fatalf("the edit lost something:\n%s", edited.Text())
		}
	})
}
