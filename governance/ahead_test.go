package governance

import (
	"fmt"
	"testing"

	"cloister/governance/statement"
)

// TestOpenAllSaysWhatOneByOneSays: whatever is wrong with an entry, and wherever
// its key comes from, a fold of many at once comes to the same.
func TestOpenAllSaysWhatOneByOneSays(t *testing.T) {
	w, l := auditedLog(t)
	w.addKey("eve", statement.P256)
	forged := w.by("bob", 1, &statement.Withdraw{Reason: "forged"})
	forged[len(forged)-10] ^= 1
	entries := append(l.entries[:len(l.entries):len(l.entries)], []byte("no statement"), forged,
		w.by("eve", 1, &statement.Withdraw{}), l.entries[3], retype(t, w.by("bob", 1, &statement.Withdraw{})),
		w.by("bob", 1, &statement.Withdraw{}), w.by("alice", 1, &statement.Withdraw{}))
	for size := 1; size <= len(entries); size++ {
		var one, many State
		for from := 0; from < len(entries); from += size {
			chunk := entries[from:min(from+size, len(entries))]
			list := openAll(chunk)
			verifyAhead(list, &many)
			for i, e := range list {
				_, got := many.apply(int64(from+i), e)
				_, want := one.Apply(int64(from+i), chunk[i])
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("entry %d of reads of %d: %v, one by one %v", from+i, size, got, want)
				}
			}
		}
		if many.Status() != Withdrawn || many.Unknown() != 1 {
			t.Fatalf("reads of %d: %s, %d unknown", size, many.Status(), many.Unknown())
		}
	}
}

// TestARotatedKeyIsKnownAhead: what a new key signs in the same read as its rotation
// is checked with the rest.
func TestARotatedKeyIsKnownAhead(t *testing.T) {
	w := newWorld(t, "alice", "bob", "recovery", "alice2")
	brought := map[string]statement.PublicKey{}
	o, err := statement.Open(w.rotate("alice2", "alice", "alice2", "recovery"))
	if err != nil {
		t.Fatal(err)
	}
	bringKeys(brought, o.Body)
	later, err := statement.Open(w.by("alice2", 1, &statement.Withdraw{}))
	if err != nil {
		t.Fatal(err)
	}
	if key, ok := new(State).keysFor(later.Body, brought)(later.Signers[0].Key); !ok || later.Verify(0, key) != nil {
		t.Errorf("the new key is not known: %v", ok)
	}
}
