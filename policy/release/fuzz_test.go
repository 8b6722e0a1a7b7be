package release

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzClaims: claims that parse are what encoding/json sees in them, and no
// policy makes them panic.
func FuzzClaims(f *testing.F) {
	p, err := New(requirements())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"x-ms-sevsnpvm-is-debuggable":false,"a":{"b":[1,2.50,"\u0041",null]},"n":1e3}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		claims, err := ParseClaims(payload)
		if err != nil {
			return
		}
		dec := json.NewDecoder(bytes.NewReader(payload))
		dec.UseNumber()
		var plain map[string]any
		if err := dec.Decode(&plain); err != nil {
			t.Fatalf("%q parses, and is not JSON: %v", payload, err)
		}
		ours, _ := json.Marshal(claims)
		theirs, _ := json.Marshal(plain)
		if !bytes.Equal(ours, theirs) {
			t.Errorf("%q is %s, encoding/json sees %s", payload, ours, theirs)
		}
		p.Evaluate(map[string]Claims{authority: claims})
	})
}
