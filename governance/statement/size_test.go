package statement

import (
	"testing"
	"time"
)

// TestSize: it is what Sign comes to, or the few bytes more that a longer signature
// or a higher counter would take.
func TestSize(t *testing.T) {
	for _, algorithm := range []Algorithm{P256, Ed25519} {
		key, err := GenerateKey(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		s := Statement{Body: &Withdraw{Reason: "the trial was stopped"}, Contract: "trial", Time: time.Now(), Version: 1}
		entry, err := Sign(s, Signature{Signer: key, Counter: 7})
		if err != nil {
			t.Fatal(err)
		}
		size, err := Size(s)
		if most := len(entry) + 64; err != nil || size < len(entry) || size > most {
			t.Errorf("%s: %d bytes, %v; signed they are %d", algorithm, size, err, len(entry))
		}
	}
	if _, err := Size(Statement{}); err == nil {
		t.Error("a statement that says nothing has a size")
	}
}
