package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/governance/tiles"
	"cloister/internal/fault"
	"cloister/policy/spec"

	"golang.org/x/mod/sumdb/note"
)

const digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// author signs statements of one party of one contract.
type author struct {
	t        testing.TB
	key      *statement.PrivateKey
	counter  uint64
	contract statement.Contract
}

func newAuthor(t testing.TB, raw []byte) *author {
	t.Helper()
	var key *statement.PrivateKey
	var err error
	if raw == nil {
		key, err = statement.GenerateKey(statement.Ed25519)
	} else {
		key, err = statement.ParsePrivateKey(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &author{t: t, key: key, contract: statement.Contract{
		ContainerPolicy: digestA, ID: "trial", KeyReleasePolicy: digestA, Specification: digestA, Version: 1,
		Parties: []statement.Party{{Key: key.Public().SPKI(), Name: "alice"}}}}
}

func (a *author) sign(body statement.Body) []byte { return a.signAt(time.Now(), body) }

func (a *author) signAt(when time.Time, body statement.Body) []byte {
	a.t.Helper()
	a.counter++
	entry, err := statement.Sign(statement.Statement{Body: body, Contract: "trial", Time: when, Version: 1},
		statement.Signature{Signer: a.key, Counter: a.counter})
	if err != nil {
		a.t.Fatal(err)
	}
	return entry
}

func (a *author) propose() []byte { return a.sign(&statement.Propose{Contract: a.contract}) }

func (a *author) approve() []byte {
	digest, err := a.contract.Digest()
	if err != nil {
		a.t.Fatal(err)
	}
	return a.sign(&statement.Approve{Digest: digest})
}

func (a *author) grant() []byte {
	return a.sign(&statement.ConsentGrant{Scopes: []string{"execution"}})
}

func initLedger(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(tempDir(t), "ledger")
	if _, err := Init(dir, "", anybody); err != nil {
		t.Fatal(err)
	}
	return dir
}

// anybody stands in the list of who may propose until allow has put a key there.
const anybody = digestA

// allow has the operator name a party.
func allow(t testing.TB, dir string, a *author) {
	t.Helper()
	check(t, os.WriteFile(filepath.Join(dir, partiesFile), []byte(a.key.Public().Fingerprint()+"\n"), 0o644))
}

// initFor is a ledger for a new party.
func initFor(t testing.TB) (string, *author) {
	t.Helper()
	dir, a := initLedger(t), newAuthor(t, nil)
	allow(t, dir, a)
	return dir, a
}

// tempDir is removed at the end, once what Tessera does in the background, which
// ends some time after Close, no longer writes to it.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cloister-ledger-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := os.RemoveAll(dir)
		for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); err = os.RemoveAll(dir) {
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			t.Error(err)
		}
	})
	return dir
}

func open(t testing.TB, dir string) *Ledger {
	t.Helper()
	l, err := Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// fill appends n grants, many at a time. Their counters must rise: one that was
// overtaken is made anew.
func fill(t testing.TB, l *Ledger, a *author, n int) {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex // guards a
	for range n {
		all.Go(func() {
			for {
				mu.Lock()
				e := a.grant()
				mu.Unlock()
				_, err := l.Append(context.Background(), e)
				if governance.ReasonOf(err) == governance.Replayed {
					continue
				}
				if err != nil {
					t.Error(err)
				}
				return
			}
		})
	}
	all.Wait()
}

func put(t testing.TB, l *Ledger, entries ...[]byte) {
	t.Helper()
	for _, e := range entries {
		if _, err := l.Append(context.Background(), e); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAppendIsSeenByEveryReader(t *testing.T) {
	dir, a := initFor(t)
	one, two := open(t, dir), open(t, dir)
	want := [][]byte{a.propose(), a.approve(), a.grant()}
	for i, e := range want {
		l := []*Ledger{one, two}[i%2]
		r, err := l.Append(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		if r.Index != int64(i) {
			t.Errorf("index %d, want %d", r.Index, i)
		}
		c, err := governance.OpenCheckpoint(r.Checkpoint, one.Key())
		if err != nil || c.Size != int64(i)+1 {
			t.Errorf("%+v %v", c, err)
		}
	}
	for name, source := range map[string]governance.Source{"one": one, "two": two, "reopened": open(t, dir), "read": tiles.NewReader(tiles.Dir(dir).Fetch)} {
		v := governance.NewView(one.Key())
		var got [][]byte
		if err := v.AdvanceToNewest(t.Context(), source, func(s governance.Seen) { got = append(got, s.Entry) }); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(bytes.Join(got, nil), bytes.Join(want, nil)) || v.State().Status() != governance.Accepted {
			t.Errorf("%s reads %d entries, %s", name, len(got), v.State().Status())
		}
	}
	if _, err := one.Entries(t.Context(), 0, 9); fault.KindOf(err) != fault.NotFound {
		t.Errorf("entries beyond the end: %v", err)
	}
}

func TestManyEntriesAreReadInBatches(t *testing.T) {
	dir, a := initFor(t)
	l := open(t, dir)
	put(t, l, a.propose(), a.approve())
	fill(t, l, a, tiles.Width)
	got, err := open(t, dir).Entries(t.Context(), 0, tiles.Width+2)
	if err != nil || len(got) != tiles.Width {
		t.Errorf("%d entries, %v", len(got), err)
	}
}

func TestRefusedStatementsLeaveTheFilesAlone(t *testing.T) {
	dir, a := initFor(t)
	eve := newAuthor(t, nil)
	l := open(t, dir)
	proposal := a.propose()
	put(t, l, proposal)
	eve.counter = 10
	future, past := a.signAt(time.Now().Add(time.Hour), &statement.Withdraw{}), a.signAt(time.Now().Add(-time.Hour), &statement.Withdraw{})
	for _, tc := range []struct {
		name   string
		entry  []byte
		reason governance.Reason
		text   string
	}{
		{"malformed", []byte("x"), governance.Malformed, "malformed"},
		{"two lines", append(append(a.approve(), '\n'), a.grant()...), governance.Malformed, "malformed"},
		{"oversize", bytes.Repeat([]byte("x"), statement.MaxEntry+1), governance.Malformed, "at most 65535"},
		{"not a party", eve.approve(), governance.NotAParty, "is of no party"},
		{"replay", proposal, governance.WrongState, "proposed already"},
		{"clock ahead", future, governance.ClockFarOff, "1h0m0s from the ledger's"},
		{"clock behind", past, governance.ClockFarOff, "1h0m0s from the ledger's"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := snapshot(t, dir)
			_, err := l.Append(t.Context(), tc.entry)
			if governance.ReasonOf(err) != tc.reason || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got (%s) %v, want (%s) with %q", governance.ReasonOf(err), err, tc.reason, tc.text)
			}
			if snapshot(t, dir) != before {
				t.Error("something was written")
			}
		})
	}
}

func snapshot(t testing.TB, dir string) string {
	t.Helper()
	var all strings.Builder
	files := 0
	check(t, filepath.WalkDir(dir, func(path string, f os.DirEntry, err error) error {
		// What Tessera marks for itself at intervals is not the log.
		if err != nil || f.IsDir() || path == filepath.Join(dir, tiles.TileDir, "checkpoint") || strings.Contains(path, "gcState") {
			return err
		}
		raw, err := os.ReadFile(path)
		all.WriteString(path + "\n" + string(raw) + "\n")
		files++
		return err
	}))
	if files < 5 {
		t.Fatalf("%d files", files)
	}
	return all.String()
}

func TestInitAndOpenRefuse(t *testing.T) {
	dir := initLedger(t)
	if _, err := Init(filepath.Join(tempDir(t), "x"), ""); fault.KindOf(err) != fault.Usage {
		t.Errorf("nobody may propose: %v", err)
	}
	if _, err := Init(dir, "", anybody); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("init twice: %v", err)
	}
	if _, err := Init(filepath.Join(tempDir(t), "x"), "no spaces here", anybody); fault.KindOf(err) != fault.Usage {
		t.Errorf("a bad name: %v", err)
	}
	if _, err := Open(t.Context(), tempDir(t)); fault.KindOf(err) != fault.NotFound {
		t.Errorf("no ledger: %v", err)
	}
	secret, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		do   func(dir string)
		want string
	}{
		{"key readable by others", func(dir string) { check(t, os.Chmod(filepath.Join(dir, keyFile), 0o640)) }, "readable by others (mode 640)"},
		{"key missing", func(dir string) { check(t, os.Remove(filepath.Join(dir, keyFile))) }, "there is no ledger key"},
		{"key of another ledger", func(dir string) { other := initLedger(t); move(t, other, dir, keyFile) }, "is not the key that ledger.pub names"},
		{"key broken", func(dir string) {
			check(t, os.WriteFile(filepath.Join(dir, keyFile), append([]byte("x"), secret...), 0o600))
		}, "is not a ledger's key"},
		{"checkpoint missing", func(dir string) { check(t, os.Remove(filepath.Join(dir, tiles.CheckpointPath))) }, "there is no ledger in"},
		{"entries missing", func(dir string) {
			check(t, os.RemoveAll(filepath.Join(dir, tiles.TileDir, "tile", "entries")))
		}, "has lost its file tile/entries/000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, a := initFor(t)
			put(t, open(t, dir), a.propose())
			tc.do(dir)
			_, err := Open(t.Context(), dir)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want an error with %q", err, tc.want)
			}
			if strings.Contains(err.Error(), strings.TrimSpace(string(secret))) || strings.Contains(err.Error(), "PRIVATE") {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func move(t testing.TB, from, to, name string) {
	t.Helper()
	check(t, os.Rename(filepath.Join(from, name), filepath.Join(to, name)))
}

// entries returns what the log holds.
func entries(t testing.TB, dir string) (list [][]byte) {
	t.Helper()
	d := tiles.Dir(dir)
	c, err := governance.OpenCheckpoint(must(os.ReadFile(filepath.Join(dir, tiles.CheckpointPath))), must(d.Key()))
	check(t, err)
	for int64(len(list)) < c.Size {
		more, err := tiles.NewReader(d.Fetch).Entries(t.Context(), int64(len(list)), c.Size)
		check(t, err)
		list = append(list, more...)
	}
	return list
}

// bundle is where the log's first entries are, n of them.
func bundle(dir string, n int) string {
	return filepath.Join(dir, tiles.TileDir, "tile", "entries", "000.p", strconv.Itoa(n))
}

// setEntries writes the entries over those that the log of n has.
func setEntries(t testing.TB, dir string, n int, list [][]byte) {
	t.Helper()
	var raw []byte
	for _, e := range list {
		raw = append(binary.BigEndian.AppendUint16(raw, uint16(len(e))), e...)
	}
	check(t, os.WriteFile(bundle(dir, n), raw, 0o644))
}

// forge is a log of these entries, made and signed by who has the key.
func forge(t testing.TB, dir string, list [][]byte) {
	t.Helper()
	check(t, os.RemoveAll(filepath.Join(dir, tiles.TileDir)))
	s, err := openStore(filepath.Join(dir, tiles.TileDir), "forger")
	check(t, err)
	defer s.close()
	check(t, s.add(t.Context(), 0, list))
	signer, _, err := readSigner(filepath.Join(dir, keyFile), must(tiles.Dir(dir).Key()))
	check(t, err)
	var tree governance.Frontier
	for _, e := range list {
		tree.Add(e)
	}
	check(t, putCheckpoint(tiles.Dir(dir), must(sign(signer, &tree))))
}

// TestTamperedFilesAreRefused has somebody write into the directory, first
// without the ledger's key, then with it.
func TestTamperedFilesAreRefused(t *testing.T) {
	const n = 4
	for _, tc := range []struct {
		name   string
		tamper func(t *testing.T, dir string, e [][]byte)
		want   string
	}{
		{"rewrite a byte", func(t *testing.T, dir string, e [][]byte) {
			e[1][30] ^= 1
			setEntries(t, dir, n, e)
		}, "do not have the root"},
		{"drop an entry", func(t *testing.T, dir string, e [][]byte) {
			setEntries(t, dir, n, append(e[:1:1], e[2:]...))
		}, "it holds fewer than 4"},
		{"reorder entries", func(t *testing.T, dir string, e [][]byte) {
			e[2], e[1] = e[1], e[2]
			setEntries(t, dir, n, e)
		}, "do not have the root"},
		{"truncate in an entry", func(t *testing.T, dir string, _ [][]byte) {
			info, err := os.Stat(bundle(dir, n))
			check(t, err)
			check(t, os.Truncate(bundle(dir, n), info.Size()-10))
		}, "the bundle breaks off in entry 3"},
		{"replay an entry within", func(t *testing.T, dir string, e [][]byte) {
			setEntries(t, dir, n, append(append(e[:2:2], e[1]), e[2:]...))
		}, "do not have the root"},
		{"no bundle at all", func(t *testing.T, dir string, _ [][]byte) {
			check(t, os.WriteFile(bundle(dir, n), bytes.Repeat([]byte("x"), 1<<20), 0o644))
		}, "the bundle breaks off in entry"},
		{"checkpoint with another size", func(t *testing.T, dir string, _ [][]byte) {
			path := filepath.Join(dir, tiles.CheckpointPath)
			check(t, os.WriteFile(path, bytes.Replace(must(os.ReadFile(path)), []byte("\n4\n"), []byte("\n3\n"), 1), 0o644))
		}, "invalid signature"},
		{"checkpoint of another key", func(t *testing.T, dir string, _ [][]byte) {
			other, a := initFor(t)
			put(t, open(t, other), a.propose())
			move(t, other, dir, tiles.CheckpointPath)
		}, "no verifiable signatures"},
		{"rewrite a byte and sign again", func(t *testing.T, dir string, e [][]byte) {
			e[1] = bytes.Replace(e[1], []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1)
			forge(t, dir, e)
		}, "entry 1 is not one that a ledger appends: wrong signature"},
		{"replay an entry and sign again", func(t *testing.T, dir string, e [][]byte) {
			forge(t, dir, append(e[:3:3], e[2]))
		}, "entry 3 is not one that a ledger appends: replayed"},
		{"reorder entries and sign again", func(t *testing.T, dir string, e [][]byte) {
			e[2], e[1] = e[1], e[2]
			forge(t, dir, e)
		}, "entry 1 is not one that a ledger appends: the contract is proposed"},
		{"put a forged entry in and sign again", func(t *testing.T, dir string, e [][]byte) {
			forge(t, dir, append(e, newAuthor(t, nil).grant()))
		}, "entry 4 is not one that a ledger appends: key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, a := initFor(t)
			running := open(t, dir)
			put(t, running, a.propose(), a.approve(), a.grant(), a.grant())
			tc.tamper(t, dir, entries(t, dir))
			_, err := Open(t.Context(), dir)
			if err == nil || !strings.Contains(err.Error(), tc.want) || fault.KindOf(err) != fault.Refused && fault.KindOf(err) != fault.Conflict {
				t.Errorf("opening: got (%v) %v, want an error with %q", fault.KindOf(err), err, tc.want)
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestRollbackIsSeenByWhoeverSawMore: an operator can put back all files of an
// earlier time. Nobody who starts fresh can tell, which is what witnesses are
// for; a reader that goes on from what it saw can.
func TestRollbackIsSeenByWhoeverSawMore(t *testing.T) {
	dir, a := initFor(t)
	running := open(t, dir)
	put(t, running, a.propose(), a.approve())
	earlier := tempDir(t)
	check(t, os.CopyFS(earlier, os.DirFS(dir)))
	put(t, running, a.grant())
	check(t, os.RemoveAll(dir))
	check(t, os.CopyFS(dir, os.DirFS(earlier)))
	check(t, os.Chmod(filepath.Join(dir, keyFile), 0o600))
	if _, err := running.Append(t.Context(), a.grant()); err == nil || !strings.Contains(err.Error(), "rolled back") {
		t.Errorf("the running ledger: %v", err)
	}
	if _, err := Open(t.Context(), dir); err != nil {
		t.Errorf("a fresh reader cannot tell, yet says %v", err)
	}
}

func TestAppendersTakeTurns(t *testing.T) {
	dir, a := initFor(t)
	put(t, open(t, dir), a.propose(), a.approve())
	// The grants' counters rise in the order of signing, so of two that race one
	// may be refused as replayed. What may not happen is any other error.
	var all sync.WaitGroup
	var entries [][]byte
	for range 12 {
		entries = append(entries, a.grant())
	}
	for i := range 3 {
		l := open(t, dir)
		all.Go(func() {
			for _, e := range entries[i*4 : i*4+4] {
				if _, err := l.Append(t.Context(), e); err != nil && governance.ReasonOf(err) != governance.Replayed {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	put(t, open(t, dir), a.grant())
}

func TestWaitingForTheLockGivesWayToTheContext(t *testing.T) {
	dir, a := initFor(t)
	l, other := open(t, dir), open(t, dir)
	unlock, err := other.lockFiles(t.Context())
	check(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := l.Append(ctx, a.propose()); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "locking the ledger") {
		t.Errorf("got %v", err)
	}
	unlock()
	put(t, l, a.propose())
}

// TestCheckpointIsANote: any reader of signed notes can check a checkpoint.
func TestCheckpointIsANote(t *testing.T) {
	dir, a := initFor(t)
	put(t, open(t, dir), a.propose())
	verifier, err := note.NewVerifier(must(tiles.Dir(dir).Key()))
	check(t, err)
	n, err := note.Open(must(os.ReadFile(filepath.Join(dir, tiles.CheckpointPath))), note.VerifierList(verifier))
	if err != nil || !strings.HasPrefix(n.Text, verifier.Name()+"\n1\n") {
		t.Errorf("%+v %v", n, err)
	}
}

// TestEvidenceIsJudgedBeforeARunBegins: what the judge refuses is not appended, nor
// is what came with it; and what was appended is not judged again.
func TestEvidenceIsJudgedBeforeARunBegins(t *testing.T) {
	dir, a := initFor(t)
	var refuse error
	var under statement.Contract
	l, err := Open(t.Context(), dir, WithEvidence(func(b *statement.RunBegin, k statement.Contract) error {
		under = k
		return refuse
	}))
	check(t, err)
	t.Cleanup(l.Close)
	put(t, l, a.propose(), a.approve())
	refuse = fault.Errorf(fault.Refused, "", "HOST_DATA is another policy's")
	before := snapshot(t, dir)
	_, err = l.Append(t.Context(), a.chain(3)...)
	if governance.ReasonOf(err) != governance.Unapproved || !strings.Contains(err.Error(), "HOST_DATA is another policy's") {
		t.Errorf("got %v", err)
	}
	if snapshot(t, dir) != before || under.ContainerPolicy != a.contract.ContainerPolicy {
		t.Error("something was appended, or the evidence was judged by another contract")
	}
	refuse = nil
	_, err = l.Append(t.Context(), a.chain(3)...)
	check(t, err)
	refuse = fault.Errorf(fault.Refused, "", "the certificate has expired")
	put(t, l, a.grant())
}

// TestRefusedIsBounded: however much is refused, the newest is kept, and no more
// than the files have room for.
func TestRefusedIsBounded(t *testing.T) {
	dir, a := initFor(t)
	l := open(t, dir)
	canonical, err := spec.Specification{Governance: spec.Governance{Refused: spec.RefusedKept}}.Canonical()
	check(t, err)
	a.contract.Specification = spec.DigestOf(canonical)
	put(t, l, a.sign(&statement.Propose{Contract: a.contract, Specification: canonical}), a.approve())
	entry := a.approve()
	unlock, err := l.lockFiles(t.Context())
	check(t, err)
	defer unlock()
	refusal := l.view.State().Check(entry)
	for range 3 * maxRefused / len(entry) {
		check(t, l.keepRefused(entry, refusal))
	}
	total := int64(0)
	for _, name := range []string{refusedFile, refusedOlder} {
		info, err := os.Stat(filepath.Join(dir, name))
		if check(t, err); info.Size() > maxRefused {
			t.Errorf("%s has %d bytes", name, info.Size())
		}
		total += info.Size()
	}
	if total < maxRefused {
		t.Errorf("%d bytes are kept", total)
	}
}

// TestCreate: the key of such a ledger is in no file, so that nobody goes on with it.
func TestCreate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	key := newAuthor(t, nil)
	l, err := Create(t.Context(), dir, []string{key.key.Public().Fingerprint()})
	check(t, err)
	if _, err := l.Append(t.Context(), key.propose()); err != nil {
		t.Error(err)
	}
	l.Close()
	if _, err := os.Stat(filepath.Join(dir, keyFile)); !errors.Is(err, os.ErrNotExist) {
		t.Error("the key is in a file:", err)
	}
	if _, err := Open(t.Context(), dir); fault.KindOf(err) != fault.NotFound {
		t.Error("it is gone on with:", err)
	}
	if _, err := Create(t.Context(), dir, []string{key.key.Public().Fingerprint()}); fault.KindOf(err) != fault.Conflict {
		t.Error("its place is taken:", err)
	}
	if _, err := Create(t.Context(), filepath.Join(t.TempDir(), "nobodys"), nil); fault.KindOf(err) != fault.Usage {
		t.Error("nobody could propose:", err)
	}
}
