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
			for i, e := range openAll(chunk, &many) {
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
