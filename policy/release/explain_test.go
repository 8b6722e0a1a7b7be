package release

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func good(t *testing.T) Policy {
	t.Helper()
	p, err := New(Requirements{Authority: "https://sharedneu.neu.attest.azure.net", Platform: AzureSNP, HostData: [32]byte{1}, MinGuestSVN: 2})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func names(e Explanation) (list []string) {
	for _, w := range e.Warnings {
		list = append(list, w.Name)
	}
	return list
}

func TestWhatWeMakeHasNoWarning(t *testing.T) {
	no := false
	e, err := Explain(good(t), &no)
	if err != nil || len(e.Warnings) != 0 || len(e.Ways) != 1 || len(e.Ways[0]) != 7 {
		t.Errorf("%+v, %v", e, err)
	}
	for _, s := range e.Ways[0] {
		if strings.Contains(s, "x-ms") {
			t.Errorf("a claim is not put in words: %s", s)
		}
	}
}

// TestEachOmissionHasItsWarning leaves out, or turns around, one condition at a
// time.
func TestEachOmissionHasItsWarning(t *testing.T) {
	want := []string{NoType, NoCompliance, NoHostData, NoDebug, NoVMPL, NoSVN}
	for i, name := range want {
		p := good(t)
		p.Authorities[0].AllOf = slices.Delete(slices.Clone(p.Authorities[0].AllOf), i, i+1)
		if e, err := Explain(p, nil); err != nil || !slices.Equal(names(e), []string{name}) {
			t.Errorf("left out: %v, want %s; %v", names(e), name, err)
		}
		p = good(t)
		p.Authorities[0].AllOf = slices.Clone(p.Authorities[0].AllOf)
		p.Authorities[0].AllOf[i].Operator = NotEquals
		if e, err := Explain(p, nil); err != nil || !slices.Equal(names(e), []string{name}) {
			t.Errorf("turned around: %v, want %s; %v", names(e), name, err)
		}
	}
	yes := true
	for name, change := range map[string]func(*Policy){
		WildcardAuthority: func(p *Policy) { p.Authorities[0].URL = "https://*.attest.azure.net" },
		ForeignAuthority:  func(p *Policy) { p.Authorities[0].URL = "https://attest.azure.net.example" },
		Never:             func(p *Policy) { p.Authorities = nil },
	} {
		p := good(t)
		change(&p)
		if e, err := Explain(p, nil); err != nil || !slices.Equal(names(e), []string{name}) {
			t.Errorf("%v, want %s; %v", names(e), name, err)
		}
	}
	if e, err := Explain(good(t), &yes); err != nil || !slices.Equal(names(e), []string{Mutable}) {
		t.Errorf("%v, want %s; %v", names(e), Mutable, err)
	}
}

func TestAnAlternativeIsAWarning(t *testing.T) {
	p := good(t)
	all := p.Authorities[0].AllOf
	p.Authorities[0] = Authority{URL: p.Authorities[0].URL, AnyOf: []Condition{{AllOf: all}, {AllOf: all[:2]}}}
	e, err := Explain(p, nil)
	if err != nil || len(e.Ways) != 1 || !slices.Contains(names(e), NoHostData) {
		t.Errorf("the longer way counts: %+v, %v", e, err)
	}
	p.Authorities[0].AnyOf[1] = Condition{AllOf: append(slices.Clone(all[:2]), Condition{Claim: "x", Operator: Equals, Value: String("1")})}
	if e, err = Explain(p, nil); err != nil || len(e.Ways) != 2 || !slices.Contains(names(e), NoHostData) || !strings.HasPrefix(e.Warnings[0].Text, "way ") {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestTooManyWays(t *testing.T) {
	two := Condition{AnyOf: []Condition{{Claim: "a", Operator: Equals, Value: String("1")}, {Claim: "a", Operator: Equals, Value: String("2")}}}
	p := Policy{Authorities: []Authority{{URL: "https://a.example", AllOf: slices.Repeat([]Condition{two}, 20)}}}
	if _, err := p.Ways(); err == nil {
		t.Error("a million ways")
	}
}

// drawCondition makes statements about few claims, so that policies and tokens
// meet.
func drawCondition(t *rapid.T, depth int) Condition {
	group := 0
	if depth > 0 {
		group = rapid.IntRange(0, 2).Draw(t, "group")
	}
	if group == 0 {
		return Condition{
			Claim:    rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "claim"),
			Operator: rapid.SampledFrom(operators[:6]).Draw(t, "operator"),
			Value:    String(rapid.SampledFrom([]string{"0", "1", "2"}).Draw(t, "value")),
		}
	}
	var list []Condition
	for range rapid.IntRange(1, 3).Draw(t, "members") {
		list = append(list, drawCondition(t, depth-1))
	}
	if group == 1 {
		return Condition{AllOf: list}
	}
	return Condition{AnyOf: list}
}

func drawPolicy(t *rapid.T) (p Policy) {
	for range rapid.IntRange(1, 2).Draw(t, "authorities") {
		c := drawCondition(t, 2)
		if c.Claim != "" {
			c = Condition{AllOf: []Condition{c}}
		}
		p.Authorities = append(p.Authorities, Authority{URL: rapid.SampledFrom([]string{"https://x.example", "https://y.example/"}).Draw(t, "url"), AllOf: c.AllOf, AnyOf: c.AnyOf})
	}
	return p
}

func drawTokens(t *rapid.T) map[string]Claims {
	claims := Claims{}
	for _, name := range []string{"a", "b", "c"} {
		if rapid.Bool().Draw(t, "has") {
			claims[name] = rapid.SampledFrom([]string{"0", "1", "2", "x"}).Draw(t, "is")
		}
	}
	return map[string]Claims{rapid.SampledFrom([]string{"https://x.example/", "https://y.example"}).Draw(t, "issuer"): claims}
}

// TestTheWaysAreThePolicy: what is explained is what the vault decides.
func TestTheWaysAreThePolicy(t *testing.T) {
	met := 0
	rapid.Check(t, func(t *rapid.T) {
		p, tokens := drawPolicy(t), drawTokens(t)
		ways, err := p.Ways()
		if err != nil {
			t.Fatal(err)
		}
		any := slices.ContainsFunc(ways, func(w Way) bool {
			return Policy{Authorities: []Authority{{URL: w.Authority, AllOf: w.Conditions}}}.Evaluate(tokens).Met
		})
		if got := p.Evaluate(tokens).Met; got != any {
			t.Fatalf("the policy says %v, its ways %v", got, any)
		} else if got {
			met++
		}
		e, err := Explain(p, nil)
		if err != nil || len(e.Ways) != len(ways) {
			t.Fatalf("%d ways explained of %d, %v", len(e.Ways), len(ways), err)
		}
	})
	if met == 0 {
		t.Error("no token met any policy: nothing was compared")
	}
}

// TestDiffIsByMeaning: a policy does not differ from itself however it is
// written, differs the same from both sides, and one that does not differ
// decides alike.
func TestDiffIsByMeaning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, q := drawPolicy(t), drawPolicy(t)
		again, err := Parse(shuffled(t, p).Canonical())
		if err != nil {
			t.Fatal(err)
		}
		if d, err := Diff(p, again); err != nil || len(d) != 0 {
			t.Fatalf("differs from itself: %v, %v", d, err)
		}
		d, err := Diff(p, q)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Diff(q, p)
		if err != nil || len(back) != len(d) {
			t.Fatalf("%v one way and %v the other, %v", d, back, err)
		}
		if tokens := drawTokens(t); len(d) == 0 && p.Evaluate(tokens).Met != q.Evaluate(tokens).Met {
			t.Fatalf("no difference, and %v is decided otherwise", tokens)
		}
		if Equal(p, q) && len(d) != 0 {
			t.Fatalf("equal, and differ in %v", d)
		}
	})
}

// shuffled is the same policy in another order, with repetitions.
func shuffled(t *rapid.T, p Policy) Policy {
	out := Policy{}
	for _, a := range rapid.Permutation(p.Authorities).Draw(t, "order") {
		b := Authority{URL: strings.TrimSuffix(a.URL, "/")}
		if a.AllOf != nil {
			b.AllOf = append(rapid.Permutation(a.AllOf).Draw(t, "all"), a.AllOf[0])
		}
		if a.AnyOf != nil {
			b.AnyOf = append(rapid.Permutation(a.AnyOf).Draw(t, "any"), a.AnyOf[0])
		}
		out.Authorities = append(out.Authorities, b)
	}
	return out
}

func TestDiffNamesTheCondition(t *testing.T) {
	p, q := good(t), good(t)
	q.Authorities[0].AllOf = slices.Clone(q.Authorities[0].AllOf)
	q.Authorities[0].AllOf[2].Value = String(strings.Repeat("ab", 32))
	got, err := Diff(p, q)
	want := []Difference{
		{"first", `x-ms-sevsnpvm-hostdata equals "01` + strings.Repeat("0", 62) + `"`},
		{"second", `x-ms-sevsnpvm-hostdata equals "` + strings.Repeat("ab", 32) + `"`},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}
