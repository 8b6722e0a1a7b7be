package governance

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"cloister/governance/statement"

	"golang.org/x/mod/sumdb/note"
)

const digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
const digestB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

// testing.T and rapid.T both are one.
type failer interface {
	Helper()
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

// world is some parties with keys and a clock of their own.
type world struct {
	failer
	keys    map[string]*statement.PrivateKey
	counter uint64
	now     time.Time
}

func newWorld(t failer, names ...string) *world {
	t.Helper()
	w := &world{failer: t, keys: map[string]*statement.PrivateKey{}, now: time.Now()}
	for i, name := range names {
		w.addKey(name, []statement.Algorithm{statement.Ed25519, statement.P256}[i%2])
	}
	return w
}

func (w *world) addKey(name string, algorithm statement.Algorithm) {
	key, err := statement.GenerateKey(algorithm)
	if err != nil {
		w.Fatalf("%v", err)
	}
	w.keys[name] = key
}

func (w *world) contract(version uint64, parties ...string) statement.Contract {
	k := statement.Contract{ContainerPolicy: digestA, ID: "trial", KeyReleasePolicy: digestA, Specification: digestA, Version: version}
	for _, name := range parties {
		k.Parties = append(k.Parties, statement.Party{Key: w.keys[name].Public().SPKI(), Name: name})
	}
	k.Volumes = []statement.Volume{{Kind: statement.SourceVolume, Name: "in", Owner: parties[0], Reference: fmt.Sprint("reference ", version)}}
	return k
}

func (w *world) digest(k statement.Contract) string {
	d, err := k.Digest()
	if err != nil {
		w.Fatalf("%v", err)
	}
	return d
}

// by signs with the next counter.
func (w *world) by(name string, version uint64, body statement.Body) []byte {
	w.counter++
	return w.sign(name, version, w.counter, body)
}

func (w *world) sign(name string, version, counter uint64, body statement.Body) []byte {
	w.Helper()
	entry, err := statement.Sign(statement.Statement{Body: body, Contract: "trial", Time: w.now, Version: version},
		statement.Signature{Signer: w.keys[name], Counter: counter})
	if err != nil {
		w.Fatalf("signing %s: %v", body.Type(), err)
	}
	return entry
}

func execution() []string { return []string{statement.ScopeExecution} }

// accepted returns the entries that lead to a contract accepted and consented
// to by all.
func (w *world) accepted(parties ...string) [][]byte {
	k := w.contract(1, parties...)
	entries := [][]byte{w.by(parties[0], 1, &statement.Propose{Contract: k})}
	for _, name := range parties {
		entries = append(entries, w.by(name, 1, &statement.Approve{Digest: w.digest(k)}))
	}
	for _, name := range parties {
		entries = append(entries, w.by(name, 1, &statement.ConsentGrant{Scopes: execution()}))
	}
	return entries
}

// memLog is an honest log in memory whose answers a test can bend.
type memLog struct {
	key    string
	signer note.Signer

	mu      sync.Mutex // guards what follows
	entries [][]byte
	state   State
	appends int // how often Append was called

	introduced []*statement.RunBegin

	append     func(entry []byte) error              // before an append
	appended   func() error                          // after it
	checkpoint func([]byte) []byte                   // bends what Checkpoint returns
	read       func(from int64, e [][]byte) [][]byte // bends what Entries returns
	receipt    func(Receipt) Receipt
}

func newMemLog(t failer) *memLog {
	secret, public, err := note.GenerateKey(rand.Reader, "test-ledger")
	if err != nil {
		t.Fatalf("%v", err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return &memLog{key: public, signer: signer}
}

func (l *memLog) sign(entries [][]byte) []byte {
	var tree Frontier
	for _, e := range entries {
		tree.Add(e)
	}
	signed, err := note.Sign(&note.Note{Text: NewCheckpoint(l.signer.Name(), tree.Size(), tree.Root())}, l.signer)
	if err != nil {
		panic(err)
	}
	return signed
}

func (l *memLog) Append(_ context.Context, entries ...[]byte) (Receipt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, refused := Receipt{Index: int64(len(l.entries))}, error(nil)
	for _, entry := range entries {
		if l.append != nil {
			if err := l.append(entry); err != nil {
				return Receipt{}, err
			}
		}
		if _, refused = l.state.Apply(int64(len(l.entries)), entry); refused != nil {
			break
		}
		l.entries = append(l.entries, bytes.Clone(entry))
		r.Count++
	}
	l.appends++
	if r.Count == 0 {
		return r, refused
	}
	r.Checkpoint = l.sign(l.entries)
	if l.receipt != nil {
		r = l.receipt(r)
	}
	if l.appended != nil {
		if err := l.appended(); err != nil {
			return r, err
		}
	}
	return r, refused
}

// Contract and Introduce make it a RunLog that anyone reads.
func (l *memLog) Contract(context.Context) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var s State
	for i, e := range l.entries {
		_, _ = s.Apply(int64(i), e) // what it refuses, it passes over
	}
	return s.digest, nil
}

func (l *memLog) Introduce(_ context.Context, b *statement.RunBegin, _ statement.Signer) error {
	l.introduced = append(l.introduced, b)
	return nil
}

func (l *memLog) Checkpoint(context.Context) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	signed := l.sign(l.entries)
	if l.checkpoint != nil {
		signed = l.checkpoint(signed)
	}
	return signed, nil
}

func (l *memLog) Entries(_ context.Context, from, to int64) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if to > int64(len(l.entries)) || from >= to {
		return nil, errors.New("no such entries")
	}
	// A few at a time, as a ledger would.
	out := append([][]byte(nil), l.entries[from:min(to, from+3)]...)
	if l.read != nil {
		out = l.read(from, out)
	}
	return out, nil
}

func (l *memLog) put(t failer, entries ...[]byte) {
	t.Helper()
	for _, e := range entries {
		if _, err := l.Append(context.Background(), e); err != nil {
			t.Fatalf("%v", err)
		}
	}
}

func wantErr(t failer, err error, reason Reason, text string) {
	t.Helper()
	if err == nil || ReasonOf(err) != reason || !strings.Contains(err.Error(), text) {
		t.Errorf("got (%q) %v, want (%q) with %q", ReasonOf(err), err, reason, text)
	}
}

func runHead(id, previous string) statement.Run {
	return statement.Run{Checkpoint: statement.Checkpoint{Root: base64.StdEncoding.EncodeToString(make([]byte, 32))}, ID: id, Previous: previous}
}

func testEvidence() statement.Evidence {
	return statement.Evidence{Platform: "simulated", Report: []byte("report")}
}

func (l *memLog) signText(t failer, text string) []byte {
	signed, err := note.Sign(&note.Note{Text: text}, l.signer)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return signed
}
