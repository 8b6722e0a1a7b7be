package cosign

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"cloister/governance"
	"cloister/governance/witness"
	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// log is a ledger's, of entries that are their own numbers.
type log struct {
	t      *testing.T
	signer note.Signer
	key    string
	hashes []tlog.Hash
	size   int64
}

func newLog(t *testing.T) *log {
	t.Helper()
	secret, public, err := note.GenerateKey(rand.Reader, "a-ledger")
	check(t, err)
	signer, err := note.NewSigner(secret)
	check(t, err)
	return &log{t: t, signer: signer, key: public}
}

func (l *log) ReadHashes(indexes []int64) (list []tlog.Hash, err error) {
	for _, i := range indexes {
		list = append(list, l.hashes[i])
	}
	return list, nil
}

// grow adds an entry and returns the signed checkpoint over it.
func (l *log) grow() []byte {
	l.t.Helper()
	more, err := tlog.StoredHashes(l.size, fmt.Append(nil, l.size), l)
	check(l.t, err)
	l.hashes = append(l.hashes, more...)
	l.size++
	root, err := tlog.TreeHash(l.size, l)
	check(l.t, err)
	signed, err := note.Sign(&note.Note{Text: governance.NewCheckpoint(l.signer.Name(), l.size, root)}, l.signer)
	check(l.t, err)
	return signed
}

func (l *log) prove(_ context.Context, old int64) (tlog.TreeProof, error) {
	return tlog.ProveTree(l.size, old, l)
}

// served is a real witness behind a door that a test can shut.
type served struct {
	*witness.Witness
	named string       // KEY@URL
	door  http.Handler // in the witness's place, nil for none
}

func (l *log) witness() *served {
	l.t.Helper()
	dir := filepath.Join(l.t.TempDir(), "witness")
	key, err := witness.Init(dir, "", l.key)
	check(l.t, err)
	w, err := witness.Open(dir)
	check(l.t, err)
	s := &served{Witness: w}
	own := w.Handler(slog.New(slog.DiscardHandler))
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		if s.door != nil {
			s.door.ServeHTTP(out, in)
			return
		}
		own.ServeHTTP(out, in)
	}))
	l.t.Cleanup(server.Close)
	s.named = key + "@" + server.URL
	return s
}

// group is of three witnesses, two of which must cosign.
func group(t *testing.T) (*log, *Group, []*served) {
	t.Helper()
	l := newLog(t)
	list := []*served{l.witness(), l.witness(), l.witness()}
	g, err := New([]string{list[0].named, list[1].named, list[2].named}, 2)
	check(t, err)
	return l, g, list
}

// cosigned wants enough cosignatures on the next checkpoint, each counted by the
// check that readers make.
func (l *log) cosigned(g *Group, list ...*served) {
	l.t.Helper()
	signed, err := g.Cosign(l.t.Context(), l.grow(), l.prove)
	check(l.t, err)
	var keys []string
	for _, w := range list {
		keys = append(keys, w.Key())
	}
	if _, err := (governance.Witnesses{Keys: keys, Threshold: 2}).Cosigned(signed); err != nil {
		l.t.Error(err)
	}
}

var away = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })

// TestALaggingWitnessCatchesUp: one that was away cosigns from where it stands, also
// for a ledger that was started anew and knows nothing of it.
func TestALaggingWitnessCatchesUp(t *testing.T) {
	l, g, list := group(t)
	l.cosigned(g, list...)
	list[2].door = away
	for range 3 {
		l.cosigned(g, list...)
	}
	list[2].door, list[1].door = nil, away
	l.cosigned(g, list...) // the one that lags is needed
	list[1].door, list[0].door = nil, away
	again, err := New([]string{list[0].named, list[1].named, list[2].named}, 2)
	check(t, err)
	l.cosigned(again, list...)
}

// TestBelowTheThreshold: what is not cosigned is said, with who did not, and is
// cosigned when it is offered again.
func TestBelowTheThreshold(t *testing.T) {
	l, g, list := group(t)
	list[0].door, list[2].door = away, away
	signed := l.grow()
	_, err := g.Cosign(t.Context(), signed, l.prove)
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "1 of 3 witnesses cosigned the checkpoint of 1 entries, 2 are needed") || !strings.Contains(err.Error(), "it answers 503") {
		t.Errorf("got %v", err)
	}
	list[2].door = nil
	_, err = g.Cosign(t.Context(), signed, l.prove)
	check(t, err)
}

// TestTheDeadlineEndsIt: two that hang are not waited for beyond it.
func TestTheDeadlineEndsIt(t *testing.T) {
	l, g, list := group(t)
	g.deadline = 1 // all of it is over at once
	_, err := g.Cosign(t.Context(), l.grow(), l.prove)
	if fault.KindOf(err) != fault.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	g.deadline = Deadline
	gone := make(chan struct{}, 1)
	list[0].door = http.HandlerFunc(func(_ http.ResponseWriter, in *http.Request) { // it hangs until it is given up
		_, _ = io.Copy(io.Discard, in.Body) // else net/http does not see that
		<-in.Context().Done()
		gone <- struct{}{}
	})
	l.cosigned(g, list...) // and the two others are enough
	<-gone
}

// TestAWithdrawnWitnessDoesNotCosign: with one other down that is one too few.
func TestAWithdrawnWitnessDoesNotCosign(t *testing.T) {
	l, g, list := group(t)
	l.cosigned(g, list...)
	check(t, list[0].Withdraw("enough"))
	l.cosigned(g, list...)
	list[1].door = away
	if _, err := g.Cosign(t.Context(), l.grow(), l.prove); err == nil || !strings.Contains(err.Error(), "the party of this witness has withdrawn") {
		t.Errorf("got %v", err)
	}
}

// TestAnswersThatAreNoCosignatures: of any kind, and from who is no witness.
func TestAnswersThatAreNoCosignatures(t *testing.T) {
	for name, answer := range map[string]struct {
		status int
		body   string
		said   string
	}{
		"nothing":              {200, "", "no cosignature"},
		"a page":               {200, "<html>", "no cosignature"},
		"another's signature":  {200, "— someone AAAAAAAAAAAA\n", "no cosignature"},
		"more than any answer": {200, strings.Repeat("x", maxAnswer+1), "no cosignature"},
		"a conflict, no size":  {409, "x\n", "no size"},
		"a negative size":      {409, "-1\n", "no size"},
		"a size too large":     {409, "99999999999999999999\n", "no size"},
		"always further":       {409, "7\n", "it has cosigned another checkpoint, of 7 entries"},
		"always behind":        {409, "0\n", "it has cosigned another checkpoint, of 0 entries"},
	} {
		l := newLog(t)
		w := l.witness()
		asked := 0
		w.door = http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
			asked++
			out.WriteHeader(answer.status)
			_, _ = out.Write([]byte(answer.body))
		})
		g, err := New([]string{w.named}, 0)
		check(t, err)
		if _, err := g.Cosign(t.Context(), l.grow(), l.prove); err == nil || !strings.Contains(err.Error(), answer.said) {
			t.Errorf("%s: %v, want %q", name, err, answer.said)
		}
		if asked > tries {
			t.Errorf("%s: asked %d times", name, asked)
		}
	}
}

func TestGroupsThatAreNone(t *testing.T) {
	w := newLog(t).witness()
	key := w.Key()
	for name, tc := range map[string]struct {
		witnesses []string
		threshold int
	}{
		"none": {nil, 0}, "no address": {[]string{key}, 0}, "another scheme": {[]string{key + "@ftp://h"}, 0}, "a password": {[]string{key + "@http://a:b@h"}, 0},
		"no key": {[]string{"@http://h"}, 0}, "twice": {[]string{w.named, w.named}, 0}, "too many needed": {[]string{w.named}, 2}, "fewer than none": {[]string{w.named}, -1},
	} {
		if _, err := New(tc.witnesses, tc.threshold); fault.KindOf(err) != fault.Usage || len(fault.Hints(err)) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
