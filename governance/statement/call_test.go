package statement

import (
	"strings"
	"testing"
	"time"

	"cloister/internal/fault"
)

// TestCall: a call is for one method of one run, now, and for nothing else.
func TestCall(t *testing.T) {
	key, err := GenerateKey(Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	call, err := SignCall("POST", "run", now, key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := VerifyCall(call, "POST", "run", now.Add(time.Minute)); err != nil || got.Fingerprint() != key.Public().Fingerprint() {
		t.Errorf("%v, %v", got, err)
	}
	parts := strings.Split(call, ".")
	for name, try := range map[string]struct {
		call, method, run string
		at                time.Time
	}{
		"another method": {call, "DELETE", "run", now},
		"another run":    {call, "POST", "other", now},
		"old":            {call, "POST", "run", now.Add(MaxCallAge + time.Second)},
		"not yet":        {call, "POST", "run", now.Add(-MaxCallAge - time.Second)},
		"no signature":   {parts[0] + "." + parts[1] + ".", "POST", "run", now},
		"another time":   {parts[0] + "." + parts[1] + "0." + parts[2], "POST", "run", now},
		"empty":          {"", "POST", "run", now},
		"too long":       {call + strings.Repeat("A", maxCall), "POST", "run", now},
		"no key":         {"AAAA." + parts[1] + "." + parts[2], "POST", "run", now},
	} {
		if _, err := VerifyCall(try.call, try.method, try.run, try.at); fault.KindOf(err) != fault.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
}
