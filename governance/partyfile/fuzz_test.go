package partyfile

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzParse: a private file is one JSON value of our type, and its errors do
// not quote what may be a key.
func FuzzParse(f *testing.F) {
	good, err := json.Marshal(file{Type: kind, Name: "hospital", PrivateKey: []byte("SECRET")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(append(good, good...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := parse(raw)
		if err != nil && len(got.PrivateKey) >= 6 && bytes.Contains([]byte(err.Error()), got.PrivateKey) {
			t.Errorf("the error quotes the key: %v", err)
		}
		if err == nil && got.Type != kind {
			t.Errorf("%q is taken for a private file of type %q", raw, got.Type)
		}
	})
}
