package strictjson

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

var limits = Limits{Size: 1 << 10, Depth: 3}

func TestParse(t *testing.T) {
	got, err := Parse([]byte(` {"a":[1.50,true,null,"x"],"b":{}} `), limits)
	want := map[string]any{
		"a": []any{json.Number("1.50"), true, nil, "x"},
		"b": map[string]any{},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("Parse = %#v, %v; want %#v", got, err, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ in, text string }{
		{``, "ends too early"},
		{`{"a":1,"a":2}`, `key "a" is given twice`},
		{`{"a":{"b":1,"\u0062":2}}`, `key "b" is given twice`},
		{`[[[[1]]]]`, "nested too deep"},
		{`{} {}`, "more after the end"},
		{`{"a":`, "ends too early"},
		{`{"a":1`, "ends too early"},
		{`[1`, "ends too early"},
		{`{1:2}`, "invalid character"},
		{`]`, "invalid character"},
		{"\"\xff\"", "not UTF-8"},
		{`"` + strings.Repeat("x", 1<<10) + `"`, "longer than 1024"},
	} {
		v, err := Parse([]byte(tc.in), limits)
		if err == nil || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("Parse(%.20q) = %v, %v; want an error with %q", tc.in, v, err, tc.text)
		}
	}
}
