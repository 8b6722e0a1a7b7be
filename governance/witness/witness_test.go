package witness

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloister/governance"
	"cloister/governance/cosign"
	"cloister/internal/fault"
	"cloister/policy/spec"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// tree is a log of small entries, with every hash that proofs are made of.
type tree struct {
	key    string
	signer note.Signer
	hashes []tlog.Hash
	size   int64
}

func newTree(t testing.TB, name string) *tree {
	t.Helper()
	secret, public, err := note.GenerateKey(rand.Reader, name)
	check(t, err)
	signer, err := note.NewSigner(secret)
	check(t, err)
	return &tree{key: public, signer: signer}
}

func (l *tree) ReadHashes(indexes []int64) (list []tlog.Hash, err error) {
	for _, i := range indexes {
		list = append(list, l.hashes[i])
	}
	return list, nil
}

// fork returns a tree that holds the same so far, and the same key.
func (l *tree) fork() *tree {
	other := *l
	other.hashes = append([]tlog.Hash(nil), l.hashes...)
	return &other
}

func (l *tree) add(t testing.TB, entries ...string) *tree {
	t.Helper()
	for _, e := range entries {
		more, err := tlog.StoredHashes(l.size, []byte(e), l)
		check(t, err)
		l.hashes = append(l.hashes, more...)
		l.size++
	}
	return l
}

func (l *tree) signed(t testing.TB) []byte {
	t.Helper()
	root, err := tlog.TreeHash(l.size, l)
	check(t, err)
	return l.signText(t, governance.NewCheckpoint(l.signer.Name(), l.size, root))
}

func (l *tree) signText(t testing.TB, text string) []byte {
	t.Helper()
	signed, err := note.Sign(&note.Note{Text: text}, l.signer)
	check(t, err)
	return signed
}

func (l *tree) prove(_ context.Context, old int64) (tlog.TreeProof, error) {
	if old == 0 || old == l.size {
		return nil, nil
	}
	return tlog.ProveTree(l.size, old, l)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func initWitness(t testing.TB, ledgers ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "witness")
	_, err := Init(dir, "", ledgers...)
	check(t, err)
	return dir
}

func open(t testing.TB, dir string) *Witness {
	t.Helper()
	w, err := Open(dir)
	check(t, err)
	return w
}

func (l *tree) offer(t testing.TB, w *Witness, old int64) ([]byte, error) {
	t.Helper()
	proof, err := l.prove(t.Context(), old)
	check(t, err)
	return w.Cosign(l.signed(t), old, proof)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// serve returns the witness's key and address, as a ledger is told them.
func serve(t testing.TB, w *Witness) string {
	t.Helper()
	server := httptest.NewServer(w.Handler(quiet()))
	t.Cleanup(server.Close)
	return w.Key() + "@" + server.URL
}

func TestCosignsAGrowingLogForWhoeverVerifies(t *testing.T) {
	l := newTree(t, "a-ledger")
	w := open(t, initWitness(t, l.key))
	group, err := cosign.New([]string{serve(t, w)}, 0)
	check(t, err)
	policy := governance.Witnesses{Keys: []string{w.Key()}}
	for range 20 {
		l.add(t, "x", "y")
		signed, err := group.Cosign(t.Context(), l.signed(t), l.prove)
		check(t, err)
		if _, err := governance.OpenCheckpoint(signed, l.key); err != nil {
			t.Fatal(err)
		}
		if at, err := policy.Cosigned(signed); err != nil || at.IsZero() {
			t.Fatalf("at %d entries: %v %v", l.size, at, err)
		}
		if _, err := policy.Cosigned(l.signed(t)); fault.KindOf(err) != fault.Refused {
			t.Fatalf("a checkpoint that nobody cosigned: %v", err)
		}
	}
	// Another process of the ledger knows nothing of where the witness stands, and
	// finds out.
	fresh, err := cosign.New([]string{serve(t, w)}, 0)
	check(t, err)
	if _, err := fresh.Cosign(t.Context(), l.add(t, "z").signed(t), l.prove); err != nil {
		t.Error(err)
	}
	status, err := open(t, w.dir).Status()
	check(t, err)
	if len(status.Ledgers) != 1 || status.Ledgers[0].Size != 41 || status.Ledgers[0].Key != l.key || status.Withdrawn != "" {
		t.Errorf("%+v", status)
	}
}

// TestKeyFitsASpecification holds: what init prints is what a specification takes.
func TestKeyFitsASpecification(t *testing.T) {
	w := open(t, initWitness(t, newTree(t, "a-ledger").key))
	s := spec.Specification{Governance: spec.Governance{Witnesses: []string{w.Key()}}}
	if err := s.Validate(); err == nil || strings.Contains(err.Error(), "witnesses") {
		t.Errorf("%v", err)
	}
	s.Governance.Witnesses[0] += "A"
	if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "witnesses") {
		t.Errorf("a damaged key: %v", err)
	}
}

// TestAnswersAsTheProtocolSays goes through C2SP tlog-witness.
func TestAnswersAsTheProtocolSays(t *testing.T) {
	l := newTree(t, "a-ledger").add(t, "0", "1", "2", "3", "4")
	w := open(t, initWitness(t, l.key))
	_, err := l.offer(t, w, 0)
	check(t, err)
	fork := l.fork().add(t, "a", "b")
	forkNow := newTree(t, "a-ledger")
	forkNow.key, forkNow.signer = l.key, l.signer
	forkNow.add(t, "0", "1", "X", "3", "4")
	l.add(t, "5", "6")
	_, err = l.offer(t, w, 5)
	check(t, err)
	stranger := newTree(t, "a-ledger").add(t, "0")
	proof := func(l *tree, old int64) string {
		hashes, err := l.prove(t.Context(), old)
		check(t, err)
		var b strings.Builder
		for _, h := range hashes {
			fmt.Fprintln(&b, h.String())
		}
		return b.String()
	}
	grown := l.fork().add(t, "7", "8", "9")
	older := l.fork()
	older.size = 5
	for _, tc := range []struct {
		name, body string
		status     int
		text       string
	}{
		{"the same again", "old 7\n\n" + string(l.signed(t)), 200, "— " + w.signer.Name() + " "},
		{"not where it stands", "old 5\n" + proof(grown, 5) + "\n" + string(grown.signed(t)), 409, "7\n"},
		{"from nothing", "old 0\n\n" + string(grown.signed(t)), 409, "7\n"},
		{"older than it cosigned", "old 5\n\n" + string(older.signed(t)), 409, "7\n"},
		{"a fork of the same size", "old 7\n\n" + string(fork.signed(t)), 409, "7\n"},
		{"a fork", "old 7\n" + proof(grown, 7) + "\n" + string(fork.fork().add(t, "c", "d", "e").signed(t)), 422, "does not lead"},
		{"a rewritten log", "old 7\n" + proof(forkNow.add(t, "5", "6", "7"), 7) + "\n" + string(forkNow.signed(t)), 422, "does not lead"},
		{"no proof", "old 7\n\n" + string(grown.signed(t)), 422, "does not lead"},
		{"proof where none belongs", "old 7\n" + proof(grown, 7) + "\n" + string(l.signed(t)), 422, "does not lead"},
		{"old above the checkpoint", "old 8\n\n" + string(l.signed(t)), 400, "larger"},
		{"unknown log", "old 0\n\n" + string(newTree(t, "other-ledger").signed(t)), 404, "follows no ledger"},
		{"another key", "old 0\n\n" + string(stranger.signed(t)), 403, "no verifiable signatures"},
		{"a changed checkpoint", "old 7\n\n" + strings.Replace(string(l.signed(t)), "\n7\n", "\n8\n", 1), 403, "invalid signature"},
		{"no note", "old 7\n\na-ledger\n7\n", 400, "malformed note"},
		{"no checkpoint", "old 7\n\n" + string(l.signText(t, "a-ledger\nhello\n")), 400, "fewer than three lines"},
		{"no old size", "old\n\n" + string(l.signed(t)), 400, "want a line"},
		{"old size with a zero", "old 07\n\n" + string(l.signed(t)), 400, "no size"},
		{"negative", "old -1\n\n" + string(l.signed(t)), 400, "no size"},
		{"a proof of no hashes", "old 7\nAAAA\n\n" + string(l.signed(t)), 400, "no hash"},
		{"a proof too long", "old 7\n" + strings.Repeat(tlog.Hash{}.String()+"\n", maxProof+1) + "\n" + string(l.signed(t)), 400, "at most 63"},
		{"empty", "", 400, "want a line"},
		{"oversize", "old 7\n\n" + strings.Repeat("x", maxRequest), 413, "too large"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := snapshot(t, w.dir)
			out := httptest.NewRecorder()
			w.Handler(quiet()).ServeHTTP(out, httptest.NewRequest(http.MethodPost, "/add-checkpoint", strings.NewReader(tc.body)))
			if out.Code != tc.status || !strings.Contains(out.Body.String(), tc.text) {
				t.Errorf("got %d %q, want %d with %q", out.Code, out.Body, tc.status, tc.text)
			}
			if tc.status == 409 && (out.Body.String() != tc.text || out.Header().Get("Content-Type") != "text/x.tlog.size") {
				t.Errorf("%q as %s", out.Body, out.Header().Get("Content-Type"))
			}
			if snapshot(t, w.dir) != before {
				t.Error("something else is remembered now")
			}
		})
	}
	out := httptest.NewRecorder()
	w.Handler(quiet()).ServeHTTP(out, httptest.NewRequest(http.MethodGet, "/add-checkpoint", nil))
	if out.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", out.Code)
	}
}

func snapshot(t testing.TB, dir string) string {
	t.Helper()
	var all strings.Builder
	files := 0
	check(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		files++
		raw, err := os.ReadFile(path)
		fmt.Fprintf(&all, "%s %s\n", path, raw)
		return err
	}))
	if files < 4 {
		t.Fatalf("%d files: looked at nothing", files)
	}
	return all.String()
}

func TestWithdrawEndsCosigningUntilResumed(t *testing.T) {
	l := newTree(t, "a-ledger").add(t, "0")
	dir := initWitness(t, l.key)
	serving, other := open(t, dir), open(t, dir)
	group, err := cosign.New([]string{serve(t, serving)}, 0)
	check(t, err)
	_, err = group.Cosign(t.Context(), l.signed(t), l.prove)
	check(t, err)
	check(t, other.Withdraw("the trial was stopped"))
	_, err = group.Cosign(t.Context(), l.signed(t), l.prove)
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "404") || !strings.Contains(err.Error(), "the trial was stopped") {
		t.Errorf("the same checkpoint, after withdrawing: %v", err)
	}
	if status, err := other.Status(); err != nil || !strings.HasSuffix(status.Withdrawn, " the trial was stopped") {
		t.Errorf("%+v %v", status, err)
	}
	if _, err := l.add(t, "1").offer(t, open(t, dir), 1); err == nil {
		t.Error("a witness that was started anew cosigns")
	}
	check(t, other.Resume())
	check(t, other.Resume())
	if _, err := group.Cosign(t.Context(), l.signed(t), l.prove); err != nil {
		t.Errorf("after resuming: %v", err)
	}
}

func TestInitAndOpenRefuse(t *testing.T) {
	l := newTree(t, "a-ledger").add(t, "0")
	dir := initWitness(t, l.key)
	secret, err := os.ReadFile(filepath.Join(dir, keyFile))
	check(t, err)
	for name, do := range map[string]func() error{
		"is not empty":        func() error { _, err := Init(dir, "", l.key); return err },
		"at least one ledger": func() error { _, err := Init(t.TempDir(), ""); return err },
		"are of a-ledger":     func() error { _, err := Init(t.TempDir(), "", l.key, newTree(t, "a-ledger").key); return err },
		"ledger key":          func() error { _, err := Init(t.TempDir(), "", open(t, dir).Key()); return err },
		"no witness in":       func() error { _, err := Open(t.TempDir()); return err },
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), name) || fault.KindOf(err) == fault.Internal {
			t.Errorf("got %v, want an error with %q", err, name)
		}
	}
	_, err = l.offer(t, open(t, dir), 0)
	check(t, err)
	for _, tc := range []struct {
		name string
		do   func(dir string) error
		want string
	}{
		{"key readable by others", func(dir string) error { return os.Chmod(filepath.Join(dir, keyFile), 0o640) }, "readable by others (mode 640)"},
		{"key of another witness", func(dir string) error {
			return os.Rename(filepath.Join(initWitness(t, l.key), keyFile), filepath.Join(dir, keyFile))
		}, "is not the key that witness.pub names"},
		{"key broken", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, keyFile), append([]byte("x"), secret...), 0o600)
		}, "is not a witness's key"},
		{"head of another log", func(dir string) error {
			return os.WriteFile(ledgerFile(dir, "a-ledger"), append([]byte(l.key+"\n\n"), newTree(t, "a-ledger").signed(t)...), 0o600)
		}, "damaged"},
		{"head gone", func(dir string) error { return os.Remove(ledgerFile(dir, "a-ledger")) }, "follows no ledger"},
		{"head cut", func(dir string) error { return os.Truncate(ledgerFile(dir, "a-ledger"), 20) }, "damaged"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := initWitness(t, l.key)
			check(t, tc.do(dir))
			w, err := Open(dir)
			if err == nil {
				_, err = l.offer(t, w, 0)
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want an error with %q", err, tc.want)
			}
			if strings.Contains(err.Error(), strings.TrimSpace(string(secret))) || strings.Contains(err.Error(), "PRIVATE") {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
}

// TestInternalErrorsStayInside: an internal error has paths in it.
func TestInternalErrorsStayInside(t *testing.T) {
	l := newTree(t, "a-ledger").add(t, "0")
	w := open(t, initWitness(t, l.key))
	check(t, os.WriteFile(ledgerFile(w.dir, "a-ledger"), []byte("x"), 0o600))
	server := httptest.NewServer(w.Handler(quiet()))
	defer server.Close()
	out, err := http.Post(server.URL+"/add-checkpoint", "text/plain", bytes.NewReader(append([]byte("old 0\n\n"), l.signed(t)...)))
	check(t, err)
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	check(t, err)
	if out.StatusCode != 500 || strings.Contains(string(body), w.dir) || !strings.Contains(string(body), "its operator") {
		t.Errorf("%d %s", out.StatusCode, body)
	}
}
