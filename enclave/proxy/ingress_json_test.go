package proxy

import "testing"

func TestUnambiguous(t *testing.T) {
	for text, want := range map[string]bool{
		`{"a":1,"b":[{"a":1},{"a":2}]}`: true,
		`7`:                             true,
		`{"a":1,"a":2}`:                 false,
		`{"b":[{"a":1,"a":2}]}`:         false,
		`{"a":1,"A":2}`:                 false,
		"{\"s\":1,\"\u017f\":2}":        false,
		"{\"k\":1,\"\u212a\":2}":        false,
		`{"a":1,"\u0061":2}`:            false,
		`{"a":1} {"a":2}`:               false,
		`{"a":1`:                        false,
		"{\"a\":\"\xff\"}":              false,
	} {
		if got := unambiguous([]byte(text)); got != want {
			t.Errorf("unambiguous(%s) is %v", text, got)
		}
	}
}
