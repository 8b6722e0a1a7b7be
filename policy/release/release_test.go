package release

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cloister/internal/fault"
)

const authority = "https://sharedneu.neu.attest.azure.net"

func requirements() Requirements {
	return Requirements{Authority: authority, Platform: AzureSNP, HostData: [32]byte{0xab, 31: 1}, MinGuestSVN: 104}
}

func mustNew(t *testing.T, r Requirements) Policy {
	t.Helper()
	p, err := New(r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustParse(t *testing.T, s string) Policy {
	t.Helper()
	p, err := Parse([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// token has the claims of a confidential container as the attestation service
// gives them: numbers and booleans as such.
func token(t *testing.T, change func(Claims)) map[string]Claims {
	t.Helper()
	c, err := ParseClaims([]byte(`{
		"iss": "https://sharedneu.neu.attest.azure.net",
		"x-ms-attestation-type": "sevsnpvm",
		"x-ms-compliance-status": "azure-compliant-uvm",
		"x-ms-sevsnpvm-hostdata": "ab00000000000000000000000000000000000000000000000000000000000001",
		"x-ms-sevsnpvm-is-debuggable": false,
		"x-ms-sevsnpvm-vmpl": 0,
		"x-ms-sevsnpvm-guestsvn": 104,
		"x-ms-runtime": {"keys": [{"kty": "RSA"}]}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(c)
	}
	return map[string]Claims{authority: c}
}

func TestNewWritesTheKnownPolicy(t *testing.T) {
	got := mustNew(t, requirements()).Canonical()
	want, err := os.ReadFile(filepath.Join("testdata", "azure.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, bytes.TrimSpace(want)) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	r := requirements()
	r.Platform, r.Authority = SimulatedSNP, "https://127.0.0.1:8443"
	simulated := string(mustNew(t, r).Canonical())
	if !strings.Contains(simulated, `{"claim":"x-cloister-simulated","equals":"true"}`) {
		t.Errorf("a simulated policy does not say so: %s", simulated)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*Requirements){
		"zero":               func(r *Requirements) { *r = Requirements{} },
		"no platform":        func(r *Requirements) { r.Platform = 0 },
		"other platform":     func(r *Requirements) { r.Platform = 3 },
		"no authority":       func(r *Requirements) { r.Authority = "" },
		"http":               func(r *Requirements) { r.Authority = "http://sharedneu.neu.attest.azure.net" },
		"azure on loopback":  func(r *Requirements) { r.Authority = "https://127.0.0.1:8443" },
		"azure on localhost": func(r *Requirements) { r.Authority = "https://localhost" },
		"simulated afar":     func(r *Requirements) { r.Platform = SimulatedSNP },
		"no host data":       func(r *Requirements) { r.HostData = [32]byte{} },
		"no floor":           func(r *Requirements) { r.MinGuestSVN = 0 },
	} {
		r := requirements()
		change(&r)
		p, err := New(r)
		if err == nil || fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: New = %s, %v; want a usage error", name, p.Canonical(), err)
		}
	}
}

func TestEvaluateNewPolicy(t *testing.T) {
	p := mustNew(t, requirements())
	if d := p.Evaluate(token(t, nil)); !d.Met || d.Err() != nil || len(d.Failures) != 0 {
		t.Fatalf("the right container is refused: %+v", d)
	}
	for _, tc := range []struct {
		claim string
		value any // nil takes the claim away
		text  string
	}{
		{claimType, "azurevm", `x-ms-attestation-type equals "sevsnpvm": have "azurevm"`},
		{claimCompliance, nil, `x-ms-compliance-status equals "azure-compliant-uvm": have no such claim`},
		{claimHostData, strings.Repeat("0", 64), `x-ms-sevsnpvm-hostdata equals "ab0`},
		{claimDebuggable, true, `x-ms-sevsnpvm-is-debuggable equals "false": have "true"`},
		{claimVMPL, float64(1), `x-ms-sevsnpvm-vmpl equals "0": have "1"`},
		{claimGuestSVN, float64(103), `x-ms-sevsnpvm-guestsvn greaterOrEquals "104": have "103"`},
		{claimGuestSVN, nil, `x-ms-sevsnpvm-guestsvn greaterOrEquals "104": have no such claim`},
		{claimGuestSVN, []any{"104"}, `have "[\"104\"]"`},
	} {
		d := p.Evaluate(token(t, func(c Claims) { c[tc.claim] = tc.value }))
		if d.Met || len(d.Failures) != 1 || d.Failures[0].Claim != tc.claim {
			t.Errorf("%s=%v: %+v; want that one failure", tc.claim, tc.value, d)
			continue
		}
		if err := d.Err(); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s=%v: %v; want a refusal with %s", tc.claim, tc.value, err, tc.text)
		}
	}
}

func TestEvaluateNamesEveryFailureInOrder(t *testing.T) {
	d := mustNew(t, requirements()).Evaluate(map[string]Claims{authority + "/": {}})
	var got []string
	for _, f := range d.Failures {
		got = append(got, f.Claim)
	}
	want := []string{claimType, claimCompliance, claimHostData, claimDebuggable, claimVMPL, claimGuestSVN}
	if d.Met || !reflect.DeepEqual(got, want) {
		t.Errorf("failures = %q, want %q", got, want)
	}
	if d.Failures[3].Path != "anyOf[0].allOf[3]" {
		t.Errorf("path = %s", d.Failures[3].Path)
	}
}

func TestSimulatedAndAzureNeverMeet(t *testing.T) {
	const local = "https://127.0.0.1:8443"
	azure := mustNew(t, requirements())
	r := requirements()
	r.Platform, r.Authority = SimulatedSNP, local
	simulated := mustNew(t, r)

	real := token(t, nil)
	fake := token(t, func(c Claims) { c["iss"] = local; c[SimulatedClaim] = "true" })
	fake = map[string]Claims{local: fake[authority]}

	if d := simulated.Evaluate(fake); !d.Met {
		t.Errorf("a simulated token does not meet the simulated policy: %v", d.Err())
	}
	for name, d := range map[string]Decision{
		"simulated token, azure policy":                azure.Evaluate(fake),
		"azure token, simulated policy":                simulated.Evaluate(real),
		"azure claims by the local service, simulated": simulated.Evaluate(map[string]Claims{local: real[authority]}),
	} {
		if d.Met || len(d.Failures) == 0 {
			t.Errorf("%s: met", name)
		}
	}
}

func TestOperators(t *testing.T) {
	claims := Claims{
		"s": "abc", "n": float64(7), "nine": "9", "ten": "10", "t": true, "null": nil, "list": []any{"x"},
		"zero": "0", "zeros": "00", "o": map[string]any{"in": map[string]any{"x": "deep"}, "a.b": "dots"},
		"flat.name": "flat", "flat": map[string]any{"name": "nested"},
	}
	exp, err := ParseClaims([]byte(`{"e": 1e1, "big": 100000000000000000001}`))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range exp {
		claims[k] = v
	}
	for _, tc := range []struct {
		condition string
		met       bool
	}{
		{`"claim":"s","equals":"abc"`, true},
		{`"claim":"s","equals":"ABC"`, false},
		{`"claim":"s","notEquals":"abd"`, true},
		{`"claim":"s","notEquals":"abc"`, false},
		{`"claim":"s","notEquals":5`, true},
		{`"claim":"absent","notEquals":"x"`, false},
		{`"claim":"null","notEquals":"x"`, false},
		{`"claim":"list","notEquals":"x"`, false},
		{`"claim":"list","equals":"x"`, false},
		{`"claim":"list","exists":"true"`, true},
		{`"claim":"n","equals":"7"`, true},
		{`"claim":"n","equals":7.0`, true},
		{`"claim":"n","equals":"07"`, true},
		{`"claim":"zero","equals":0`, true},
		{`"claim":"zero","equals":"0"`, true},
		{`"claim":"zeros","equals":"0"`, false},
		{`"claim":"n","less":"10"`, true},
		{`"claim":"nine","less":"10"`, true},
		{`"claim":"ten","less":"9"`, false},
		{`"claim":"n","less":7`, false},
		{`"claim":"n","lessOrEquals":7`, true},
		{`"claim":"n","greater":"6.5"`, true},
		{`"claim":"n","greater":7`, false},
		{`"claim":"n","greaterOrEquals":7`, true},
		{`"claim":"n","greaterOrEquals":8`, false},
		{`"claim":"s","greater":"0"`, false},
		{`"claim":"s","less":"0"`, false},
		{`"claim":"t","greater":"0"`, false},
		{`"claim":"t","equals":"true"`, true},
		{`"claim":"t","equals":true`, true},
		{`"claim":"t","equals":"false"`, false},
		{`"claim":"s","exists":"true"`, true},
		{`"claim":"s","exists":false`, false},
		{`"claim":"absent","exists":"false"`, true},
		{`"claim":"absent","exists":"true"`, false},
		{`"claim":"null","exists":"true"`, false},
		{`"claim":"o.in.x","equals":"deep"`, true},
		{`"claim":"o.a.b","equals":"dots"`, true},
		{`"claim":"o.in.y","equals":"deep"`, false},
		{`"claim":"s.x","equals":"abc"`, false},
		{`"claim":"o.in","equals":"deep"`, false},
		{`"claim":"flat.name","equals":"flat"`, true},
		{`"claim":"e","equals":"10"`, false},
		{`"claim":"e","notEquals":"11"`, false},
		{`"claim":"big","greater":"100000000000000000000"`, true},
		{`"anyOf":[{"claim":"s","equals":"x"},{"claim":"n","equals":"7"}]`, true},
		{`"anyOf":[{"claim":"s","equals":"x"},{"claim":"n","equals":"8"}]`, false},
		{`"allOf":[{"claim":"s","equals":"abc"},{"anyOf":[{"claim":"n","equals":"7"},{"claim":"n","equals":"8"}]}]`, true},
		{`"allOf":[{"claim":"s","equals":"abc"},{"anyOf":[{"allOf":[{"claim":"n","equals":"8"}]}]}]`, false},
	} {
		p := mustParse(t, `{"version":"1.0.0","anyOf":[{"authority":"`+authority+`","allOf":[{`+tc.condition+`}]}]}`)
		d := p.Evaluate(map[string]Claims{authority: claims})
		if d.Met != tc.met || d.Met == (len(d.Failures) > 0) {
			t.Errorf("%s: met %v, failures %v; want met %v", tc.condition, d.Met, d.Failures, tc.met)
		}
	}
}

func TestEvaluateDenies(t *testing.T) {
	always := []Condition{{Claim: "x", Operator: Exists, Value: String("false")}}
	for name, p := range map[string]Policy{
		"zero policy":      {},
		"no conditions":    {Authorities: []Authority{{URL: authority}}},
		"empty group":      {Authorities: []Authority{{URL: authority, AllOf: []Condition{{}}}}},
		"both groups":      {Authorities: []Authority{{URL: authority, AllOf: always, AnyOf: always}}},
		"no operator":      {Authorities: []Authority{{URL: authority, AllOf: []Condition{{Claim: claimVMPL}}}}},
		"other authority":  {Authorities: []Authority{{URL: "https://other", AllOf: always}}},
		"not an authority": {Authorities: []Authority{{URL: "", AllOf: always}}},
		"wildcard":         {Authorities: []Authority{{URL: "https://*.neu.attest.azure.net", AllOf: always}}},
	} {
		if d := p.Evaluate(token(t, nil)); d.Met || d.Err() == nil {
			t.Errorf("%s: admitted", name)
		}
	}
	p := Policy{Authorities: []Authority{{URL: authority, AllOf: always}}}
	d := p.Evaluate(map[string]Claims{"https://evil": {}, "": {}})
	if len(d.Failures) != 1 || d.Failures[0].Claim != "iss" || !strings.Contains(d.Failures[0].Actual, "https://evil") {
		t.Errorf("failures = %+v; want the issuer named", d.Failures)
	}
}

func TestAuthorityIsAnyOf(t *testing.T) {
	p := mustParse(t, `{"version":"1.0.0","anyOf":[
		{"authority":"https://a","allOf":[{"claim":"x","equals":"1"}]},
		{"authority":"https://B:443/","anyOf":[{"claim":"x","equals":"1"},{"claim":"x","equals":"2"}]}]}`)
	if d := p.Evaluate(map[string]Claims{"https://b:443": {"x": "2"}}); !d.Met {
		t.Error(d.Err())
	}
	if d := p.Evaluate(map[string]Claims{"https://a": {"x": "2"}}); d.Met || len(d.Failures) != 2 {
		t.Errorf("%+v", d)
	}
}

func TestParseRefuses(t *testing.T) {
	doc := func(s string) string { return `{"version":"1.0.0","anyOf":[` + s + `]}` }
	cond := func(s string) string { return doc(`{"authority":"https://a","allOf":[` + s + `]}`) }
	for _, tc := range []struct{ in, text string }{
		{``, "ends too early"},
		{`[]`, "not an object"},
		{`{"anyOf":[{"authority":"https://a","allOf":[{"claim":"x","equals":"1"}]}]}`, "version is <nil>"},
		{`{"version":"0.2","anyOf":[]}`, "version is 0.2"},
		{`{"version":"1.0.0"}`, "anyOf: missing"},
		{`{"version":"1.0.0","anyOf":[]}`, "anyOf: missing, not a list, or empty"},
		{`{"version":"1.0.0","anyof":[]}`, `policy: unknown field "anyof"`},
		{`{"version":"1.0.0","version":"1.0.0"}`, "given twice"},
		{doc(`1`), "anyOf[0]: not an object"},
		{doc(`{"allOf":[{"claim":"x","equals":"1"}]}`), "anyOf[0]: authority is missing"},
		{doc(`{"authority":"http://a","allOf":[{"claim":"x","equals":"1"}]}`), "not an https address"},
		{doc(`{"authority":"https://a?x","allOf":[{"claim":"x","equals":"1"}]}`), "not an https address"},
		{doc(`{"authority":"https://a"}`), "exactly one of allOf and anyOf"},
		{doc(`{"authority":"https://a","allOf":[],"anyOf":[]}`), "exactly one of allOf and anyOf"},
		{doc(`{"authority":"https://a","allOf":[]}`), "anyOf[0].allOf: missing, not a list, or empty"},
		{doc(`{"authority":"https://a","allOf":[{"claim":"x","equals":"1"}],"more":1}`), `unknown field "more"`},
		{cond(`{"claim":"x"}`), "no operator"},
		{cond(`{"claim":"x","like":"1"}`), `anyOf[0].allOf[0]: unknown field "like"`},
		{cond(`{"claim":"x","equals":"1","less":"2"}`), "both equals and less"},
		{cond(`{"claim":"x","equals":"1","anyOf":[]}`), `unknown field "anyOf"`},
		{cond(`{"claim":"","equals":"1"}`), "claim is not a string"},
		{cond(`{"claim":1,"equals":"1"}`), "claim is not a string"},
		{cond(`{"claim":"x","equals":null}`), "not a string, number or boolean"},
		{cond(`{"claim":"x","equals":["1"]}`), "not a string, number or boolean"},
		{cond(`{"claim":"x","equals":1e9}`), "not a plain decimal"},
		{cond(`{"claim":"x","greater":"abc"}`), "not a plain decimal"},
		{cond(`{"claim":"x","exists":"maybe"}`), "neither true nor false"},
		{cond(`{"anyOf":[]}`), "anyOf[0].allOf[0].anyOf: missing, not a list, or empty"},
		{cond(`{}`), "exactly one of allOf and anyOf"},
		{cond(strings.Repeat(`{"anyOf":[`, 20) + `{"claim":"x","equals":"1"}` + strings.Repeat(`]}`, 20)), "nested too deep"},
		{cond(strings.Repeat(`{"claim":"x","equals":"1"},`, maxConditions) + `{"claim":"x","equals":"1"}`), "more than 1024 conditions"},
		{cond(`{"claim":"x","equals":"` + strings.Repeat("1", maxSize) + `"}`), "longer than"},
	} {
		_, err := Parse([]byte(tc.in))
		if err == nil || !strings.Contains(err.Error(), tc.text) || fault.KindOf(err) != fault.Usage {
			t.Errorf("Parse(%.60s) = %v; want a usage error with %q", tc.in, err, tc.text)
		}
	}
}

func TestEqual(t *testing.T) {
	p := mustNew(t, requirements())
	rewritten := `{"anyOf":[{"allOf":[
		{"equals":"0","claim":"x-ms-sevsnpvm-vmpl"},
		{"claim":"x-ms-attestation-type","equals":"sevsnpvm"},
		{"claim":"x-ms-attestation-type","equals":"sevsnpvm"},
		{"allOf":[{"claim":"x-ms-compliance-status","equals":"azure-compliant-uvm"},
			{"anyOf":[{"claim":"x-ms-sevsnpvm-is-debuggable","equals":false}]}]},
		{"claim":"x-ms-sevsnpvm-hostdata","equals":"ab00000000000000000000000000000000000000000000000000000000000001"},
		{"claim":"x-ms-sevsnpvm-guestsvn","greaterOrEquals":"104"}
	],"authority":"https://SharedNEU.neu.attest.azure.net/"}],"version":"1.0.0"}`
	if !Equal(p, mustParse(t, rewritten)) {
		t.Error("the policy as the service rewrites it is not equal")
	}
	same := `{"version":"1.0.0","anyOf":[{"authority":"https://a","allOf":[{"anyOf":[{"allOf":[{"claim":"x","equals":"1"},{"claim":"y","equals":"1"}]},{"allOf":[{"claim":"y","equals":"1"},{"claim":"x","equals":"1"}]}]},{"claim":"z","equals":"1"}]}]}`
	flat := `{"version":"1.0.0","anyOf":[{"authority":"https://a","allOf":[{"claim":"x","equals":"1"},{"claim":"y","equals":"1"},{"claim":"z","equals":"1"}]}]}`
	if !Equal(mustParse(t, same), mustParse(t, flat)) {
		t.Error("a repetition in another spelling counts")
	}
	text := string(p.Canonical())
	for _, change := range [][2]string{
		{"sevsnpvm-vmpl", "sevsnpvm-smpl"},
		{`"104"`, `"103"`},
		{"greaterOrEquals", "greater"},
		{"allOf", "anyOf"},
		{"sharedneu.neu", "sharedeus.eus"},
		{`,{"claim":"x-ms-sevsnpvm-vmpl","equals":"0"}`, ""},
		{`"false"`, `"true"`},
	} {
		changed := strings.Replace(text, change[0], change[1], 1)
		if changed == text {
			t.Fatalf("%q is not in the policy", change[0])
		}
		if Equal(p, mustParse(t, changed)) {
			t.Errorf("%s for %s: still equal", change[1], change[0])
		}
	}
}

func TestDigest(t *testing.T) {
	p := mustNew(t, requirements())
	if d := p.Digest(); !strings.HasPrefix(d, "sha256:") || len(d) != 7+64 || d == (Policy{}).Digest() {
		t.Errorf("digest = %s", d)
	}
}

func TestParseClaimsRefuses(t *testing.T) {
	for _, in := range []string{``, `[]`, `"x"`, `{"a":1,"a":2}`, `{} x`} {
		if c, err := ParseClaims([]byte(in)); err == nil || fault.KindOf(err) != fault.Refused {
			t.Errorf("ParseClaims(%q) = %v, %v; want a refusal", in, c, err)
		}
	}
}

// FuzzParse holds: what Parse accepts has one canonical form that Parse reads
// back as the same policy, and no claims make Evaluate panic.
func FuzzParse(f *testing.F) {
	p, err := New(requirements())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.Canonical())
	f.Add([]byte(`{"version":"1.0.0","anyOf":[{"authority":"https://a","anyOf":[{"claim":"a.b","less":1.5},{"allOf":[{"claim":"c","exists":true}]}]}]}`))
	claims := map[string]Claims{authority: {claimVMPL: float64(0), "c": true}, "https://a": {"a": map[string]any{"b": "1"}}}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data)
		if err != nil {
			return
		}
		canonical := p.Canonical()
		again, err := Parse(canonical)
		if err != nil {
			t.Fatalf("canonical form is refused: %v\n%s", err, canonical)
		}
		if !reflect.DeepEqual(p, again) || !bytes.Equal(canonical, again.Canonical()) || !Equal(p, again) {
			t.Fatalf("not the same after a round trip:\n%s\n%s", canonical, again.Canonical())
		}
		if a, b := p.Evaluate(claims), again.Evaluate(claims); !reflect.DeepEqual(a, b) || a.Met == (len(a.Failures) > 0) {
			t.Fatalf("decisions differ: %+v %+v", a, b)
		}
	})
}

func TestPolicyOfAConfidentialVM(t *testing.T) {
	r := requirements()
	r.Platform = AnyAzureCVM
	if _, err := New(r); err == nil || !strings.Contains(err.Error(), "host data is required, and a confidential VM has none") {
		t.Errorf("with host data: %v", err)
	}
	r.HostData = [32]byte{}
	got := string(mustNew(t, r).Canonical())
	for _, want := range []string{`{"claim":"x-ms-isolation-tee.x-ms-attestation-type","equals":"sevsnpvm"}`, `{"claim":"x-ms-attestation-type","equals":"azurevm"}`,
		`{"claim":"x-ms-isolation-tee.x-ms-sevsnpvm-is-debuggable","equals":"false"}`, `{"claim":"secureboot","equals":"true"}`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
	r.Platform = AzureSNP
	if _, err := New(r); err == nil || !strings.Contains(err.Error(), "no host data is required") {
		t.Errorf("a container without host data: %v", err)
	}
}
