package statement

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"testing"
)

// payloadsOf are the payloads of one statement of each type, and the entry of each.
func payloadsOf(t testing.TB) (payloads, entries [][]byte, bodies []Body) {
	key := testKey(t, Ed25519)
	for _, body := range examples(t) {
		entry, err := Sign(Statement{Body: body, Contract: "trial", Time: when, Version: 2}, Signature{key, 4})
		if err != nil {
			t.Fatal(err)
		}
		var env envelope
		if err := json.Unmarshal(entry, &env); err != nil {
			t.Fatal(err)
		}
		payload, err := base64.StdEncoding.DecodeString(env.Payload)
		if err != nil {
			t.Fatal(err)
		}
		payloads, entries, bodies = append(payloads, payload), append(entries, entry), append(bodies, body)
	}
	return payloads, entries, bodies
}

// checkLean: what the reader takes and the rules allow encodes to the same bytes, and
// says what encoding/json reads there.
func checkLean(t *testing.T, payload []byte) (taken bool) {
	s, ok := readLean(payload)
	if !ok || s.check() != nil {
		return false
	}
	if again, err := s.payload(); err != nil || !bytes.Equal(again, payload) {
		t.Fatalf("%q is taken for %q (%v)", payload, again, err)
	}
	if want, err := parseAny(payload); err != nil || !reflect.DeepEqual(s, want) {
		t.Fatalf("%q is read as %+v, by encoding/json as %+v (%v)", payload, s, want, err)
	}
	return true
}

// TestLeanReadsWhatJSONReads: of every payload with any byte changed, left out or put
// in, the reader takes only what encoding/json takes, and for the same.
func TestLeanReadsWhatJSONReads(t *testing.T) {
	payloads, _, bodies := payloadsOf(t)
	taken := 0
	for i, payload := range payloads {
		_, isLean := bodies[i].(lean)
		if checkLean(t, payload) != isLean {
			t.Errorf("%s is taken: %v, want %v", bodies[i].Type(), !isLean, isLean)
		}
		if !isLean {
			continue
		}
		taken++
		eachChange(payload, func(changed []byte) { checkLean(t, changed) })
	}
	if taken != 3 {
		t.Errorf("%d types are read, want the 3 that logs are full of", taken)
	}
}

// eachChange hands out raw with each byte changed to some others, left out, and with
// others put in.
func eachChange(raw []byte, see func([]byte)) {
	others := []byte("\"\\,:{}[] \n0a1-\x00\x7f\xff")
	for i := range raw {
		see(append(bytes.Clone(raw[:i]), raw[i+1:]...))
		for _, b := range others {
			changed := bytes.Clone(raw)
			changed[i] = b
			see(changed)
			see(append(append(bytes.Clone(raw[:i]), b), raw[i:]...))
		}
	}
}

// checkLeanEnvelope is checkLean of an entry.
func checkLeanEnvelope(t *testing.T, entry []byte) (taken bool) {
	r := &reader{rest: entry}
	env := r.envelope()
	if !r.done() {
		return false
	}
	var want envelope
	if err := json.Unmarshal(entry, &want); err != nil || !reflect.DeepEqual(env, want) {
		t.Fatalf("%q is read as %+v, by encoding/json as %+v (%v)", entry, env, want, err)
	}
	if again, err := encode(env); err != nil || !bytes.Equal(again, entry) {
		t.Fatalf("%q is taken for %q (%v)", entry, again, err)
	}
	return true
}

func TestLeanReadsEnvelopesAsJSONDoes(t *testing.T) {
	_, entries, _ := payloadsOf(t)
	for _, entry := range entries {
		if !checkLeanEnvelope(t, entry) {
			t.Errorf("%q is not taken", entry)
		}
	}
	eachChange(entries[len(entries)-1], func(changed []byte) { checkLeanEnvelope(t, changed) })
}

// FuzzLean: as the tests above, of whatever bytes.
func FuzzLean(f *testing.F) {
	payloads, entries, _ := payloadsOf(f)
	for i := range payloads {
		f.Add(payloads[i])
		f.Add(entries[i])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		checkLean(t, raw)
		checkLeanEnvelope(t, raw)
	})
}
