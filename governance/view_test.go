package governance

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"cloister/governance/statement"
	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/tlog"
)

func TestFrontierHasTheRootsOfTheReferenceTree(t *testing.T) {
	var f Frontier
	var hashes []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, hashes[i])
		}
		return out, nil
	})
	for n := int64(0); n < 300; n++ {
		want, err := tlog.TreeHash(n, read)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 && f.Root() != want || f.Size() != n {
			t.Fatalf("root of %d leaves: %v, want %v", n, f.Root(), want)
		}
		entry := []byte{byte(n), byte(n >> 8)}
		more, err := tlog.StoredHashes(n, entry, read)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, more...)
		f.Add(entry)
	}
	// RFC 6962, 2.1: the hash of an empty list is the hash of an empty string.
	if got := (&Frontier{}).Root(); got.String() != "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" {
		t.Errorf("empty root %v", got)
	}
}

func TestOpenCheckpointRefuses(t *testing.T) {
	log, other := newMemLog(t), newMemLog(t)
	good := log.sign(nil)
	if c, err := OpenCheckpoint(good, log.key); err != nil || c.Origin != "test-ledger" || c.Size != 0 {
		t.Fatalf("%+v %v", c, err)
	}
	cosigned := append(bytes.Clone(good), "— witness AAAAAAAA\n"...)
	for name, tc := range map[string]struct {
		signed []byte
		want   string
	}{
		"another key":      {other.sign(nil), "no verifiable signatures"},
		"changed size":     {bytes.Replace(good, []byte("\n0\n"), []byte("\n1\n"), 1), "invalid signature"},
		"nothing":          {nil, "malformed note"},
		"too long":         {make([]byte, maxCheckpoint+1), "too long"},
		"not a checkpoint": {log.signText(t, "test-ledger\nhello\n"), "fewer than three lines"},
		"size with zero":   {log.signText(t, "test-ledger\n01\nAAAA\n"), "no size"},
		"no root":          {log.signText(t, "test-ledger\n1\nAAAA\n"), "no root hash"},
		"other origin":     {log.signText(t, NewCheckpoint("other-log", 0, tlog.Hash{})), `it is of log "other-log"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := OpenCheckpoint(tc.signed, log.key)
			if err == nil || !strings.Contains(err.Error(), tc.want) || fault.KindOf(err) != fault.Refused {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
	if _, err := OpenCheckpoint(bytes.Replace(cosigned, []byte("AAAAAAAA"), []byte("AAAAAAAAAAAA"), 1), log.key); err != nil {
		t.Errorf("a witness's signature beside the ledger's: %v", err)
	}
	if _, err := OpenCheckpoint(good, "nonsense"); fault.KindOf(err) != fault.Usage {
		t.Errorf("a bad verifier key: %v", err)
	}
}

// TestViewRefusesALyingLedger has the ledger's operator, who holds its key,
// rework what a reader has seen or is about to see.
func TestViewRefusesALyingLedger(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	entries := w.accepted("alice", "bob")
	more := w.by("bob", 1, &statement.ConsentWithdraw{Scopes: execution()})
	swap := func(list [][]byte, i, j int) [][]byte {
		list = append([][]byte(nil), list...)
		list[i], list[j] = list[j], list[i]
		return list
	}
	const root, back, count = "do not have the root", "rolled back", "entries of"
	for _, tc := range []struct {
		name string
		then func(l *memLog)
		want string
	}{
		{"rewrite an old entry", func(l *memLog) { l.entries[1] = more; l.entries = append(l.entries, more) }, root},
		{"reorder old entries", func(l *memLog) { l.entries = append(swap(l.entries, 1, 2), more) }, root},
		{"drop an old entry", func(l *memLog) {
			l.entries = append(append(append([][]byte(nil), l.entries[:1]...), l.entries[2:]...), more, more)
		}, root},
		{"put one in before", func(l *memLog) { l.entries = append([][]byte{more}, l.entries...) }, root},
		{"truncate", func(l *memLog) { l.entries = l.entries[:3] }, back},
		{"show an old checkpoint", func(l *memLog) { l.checkpoint = func([]byte) []byte { return l.sign(l.entries[:4]) } }, back},
		{"fork at the same size", func(l *memLog) { l.entries = swap(l.entries, 3, 4) }, root},
		{"withhold the entry", func(l *memLog) {
			l.entries = append(l.entries, more)
			l.read = func(int64, [][]byte) [][]byte { return nil }
		}, count},
		{"send another entry", func(l *memLog) {
			l.entries = append(l.entries, more)
			l.read = func(int64, [][]byte) [][]byte { return [][]byte{entries[0]} }
		}, root},
		{"send too many", func(l *memLog) {
			l.entries = append(l.entries, more)
			l.read = func(int64, [][]byte) [][]byte { return entries }
		}, count},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newMemLog(t)
			l.put(t, entries...)
			v := NewView(l.key)
			if err := v.AdvanceToNewest(t.Context(), l, nil); err != nil {
				t.Fatal(err)
			}
			honest := l.sign(entries)
			tc.then(l)
			err := v.AdvanceToNewest(t.Context(), l, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) || fault.KindOf(err) != fault.Refused {
				t.Fatalf("got %v, want an error with %q", err, tc.want)
			}
			if again := v.Advance(t.Context(), l, honest, nil); again == nil || again.Error() != err.Error() {
				t.Errorf("a view that saw a lie goes on: %v", again)
			}
		})
	}
}

func TestViewGoesOnAfterAFailedRead(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	l := newMemLog(t)
	l.put(t, w.accepted("alice", "bob")...)
	v := NewView(l.key)
	signed, _ := l.Checkpoint(t.Context())
	if err := v.Advance(t.Context(), failingSource{l, 3}, signed, nil); err == nil || !strings.Contains(err.Error(), "no route") {
		t.Fatalf("got %v", err)
	}
	if err := v.Advance(t.Context(), l, signed, nil); err != nil {
		t.Fatal(err)
	}
	if v.State().Status() != Accepted {
		t.Error(v.State().Status())
	}
}

// failingSource fails to read from one entry on.
type failingSource struct {
	*memLog
	at int64
}

func (f failingSource) Entries(ctx context.Context, from, to int64) ([][]byte, error) {
	if from >= f.at {
		return nil, fault.Errorf(fault.Unavailable, "", "no route to the ledger")
	}
	return f.memLog.Entries(ctx, from, to)
}

// TestViewPassesOverWhatTheFoldRefuses: an operator may put anything into the
// log, but it counts for nothing.
func TestViewPassesOverWhatTheFoldRefuses(t *testing.T) {
	w := newWorld(t, "alice", "bob", "eve")
	entries := w.accepted("alice", "bob")
	l := newMemLog(t)
	l.entries = append(entries, w.by("eve", 1, &statement.Withdraw{}), entries[0], []byte("garbage"))
	v := NewView(l.key)
	refused := map[int64]Reason{}
	if err := v.AdvanceToNewest(t.Context(), l, func(s Seen) {
		if s.Refused != nil {
			refused[s.Index] = ReasonOf(s.Refused)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if v.State().Status() != Accepted || len(refused) != 3 || refused[5] != NotAParty || refused[6] != WrongState || refused[7] != Malformed {
		t.Errorf("%s %v", v.State().Status(), refused)
	}
}

// TestARememberedHeadHolds: a view goes on from it, and refuses a log that was rolled
// back behind it or is another one, also where a run alone is exported.
func TestARememberedHeadHolds(t *testing.T) {
	w, l := auditedLog(t)
	signed, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.put(t, w.by("alice", 1, &statement.ConsentGrant{Scopes: execution()}))
	grown := l.entries
	last := len(grown) - 2 // under the remembered head
	for name, tc := range map[string]struct {
		entries [][]byte
		want    string
	}{
		"grown":          {grown, ""},
		"as it was":      {grown[:len(grown)-1], ""},
		"rolled back":    {grown[:len(grown)-2], "it was rolled back"},
		"another":        {append(append(grown[:last:last], w.by("bob", 1, &statement.ConsentGrant{Scopes: execution()})), grown[last+1:]...), "are not the ones that were there before"},
		"nothing at all": {nil, "it was rolled back"},
	} {
		l.entries = tc.entries
		for how, read := range map[string]func(*View) error{
			"read":     func(v *View) error { return v.AdvanceToNewest(t.Context(), l, nil) },
			"exported": func(v *View) error { return Export(t.Context(), io.Discard, l, v, runIDOf(t, grown)) },
		} {
			v := NewView(l.key)
			if err := v.Remember(signed); err != nil {
				t.Fatal(err)
			}
			if err := read(v); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s, %s: %v, want %q", name, how, err, tc.want)
			}
		}
	}
	if err := NewView(newMemLog(t).key).Remember(signed); err == nil || !strings.Contains(err.Error(), "remembered head") {
		t.Errorf("another ledger's: %v", err)
	}
}

// runIDOf is the first run's of a log.
func runIDOf(t *testing.T, entries [][]byte) string {
	t.Helper()
	for _, e := range entries {
		o, err := statement.Open(e)
		if err != nil {
			t.Fatal(err)
		}
		if begin, ok := o.Body.(*statement.RunBegin); ok {
			return begin.Run.ID
		}
	}
	t.Fatal("the log has no run")
	return ""
}
