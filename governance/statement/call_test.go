package statement

import (
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"cloister/internal/fault"
)

// TestCall: a call is for one method at one target of one run, now, with one body,
// and for nothing else.
func TestCall(t *testing.T) {
	key, err := GenerateKey(Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	now, c := time.Now(), Call{"PUT", "jobs/one", "run"}
	call, err := SignCall(c, []byte("body"), now, key)
	if err != nil {
		t.Fatal(err)
	}
	if got, body, err := VerifyCall(call, c, now.Add(time.Minute)); err != nil || got.Fingerprint() != key.Public().Fingerprint() || body != sha256.Sum256([]byte("body")) {
		t.Errorf("%v, %x, %v", got, body, err)
	}
	parts := strings.Split(call, ".")
	other, err := SignCall(c, []byte("other"), now, key)
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct {
		call string
		is   Call
		at   time.Time
	}{
		"another method": {call, Call{"DELETE", "jobs/one", "run"}, now},
		"another target": {call, Call{"PUT", "jobs/two", "run"}, now},
		"another run":    {call, Call{"PUT", "jobs/one", "other"}, now},
		"another body":   {strings.Join([]string{parts[0], parts[1], strings.Split(other, ".")[2], parts[3]}, "."), c, now},
		"old":            {call, c, now.Add(MaxCallAge + time.Second)},
		"not yet":        {call, c, now.Add(-MaxCallAge - time.Second)},
		"no signature":   {strings.Join(parts[:3], ".") + ".", c, now},
		"another time":   {parts[0] + "." + parts[1] + "0." + parts[2] + "." + parts[3], c, now},
		"no digest":      {parts[0] + "." + parts[1] + ".." + parts[3], c, now},
		"empty":          {"", c, now},
		"too long":       {call + strings.Repeat("A", maxCall), c, now},
		"no key":         {"AAAA." + strings.Join(parts[1:], "."), c, now},
	} {
		if _, _, err := VerifyCall(try.call, try.is, try.at); fault.KindOf(err) != fault.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
}
