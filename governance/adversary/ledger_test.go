package adversary

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"cloister/governance"
	"cloister/governance/cosign"
	"cloister/governance/statement"
	"cloister/governance/witness"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// party is the one party of the contract: what is true of one is true of each.
type party struct {
	t       testing.TB
	key     *statement.PrivateKey
	counter uint64
}

func newParty(t testing.TB) *party {
	t.Helper()
	key, err := statement.GenerateKey(statement.Ed25519)
	check(t, err)
	return &party{t: t, key: key}
}

func (p *party) says(body statement.Body) []byte {
	p.t.Helper()
	p.counter++
	entry, err := statement.Sign(statement.Statement{Body: body, Contract: "trial", Time: time.Now(), Version: 1},
		statement.Signature{Signer: p.key, Counter: p.counter})
	check(p.t, err)
	return entry
}

// agrees are the entries that lead to a contract that is accepted and consented to.
func (p *party) agrees() [][]byte {
	k, d := contractOf(p.t, p)
	return [][]byte{p.says(&statement.Propose{Contract: k}), p.says(&statement.Approve{Digest: d}), p.grants(nil)}
}

func contractOf(t testing.TB, p *party) (statement.Contract, string) {
	t.Helper()
	k := statement.Contract{ContainerPolicy: digest, ID: "trial", KeyReleasePolicy: digest, Specification: digest, Version: 1,
		Parties: []statement.Party{{Key: p.key.Public().SPKI(), Name: "alice"}}}
	d, err := k.Digest()
	check(t, err)
	return k, d
}

func (p *party) grants(until *time.Time) []byte {
	g := &statement.ConsentGrant{Scopes: []string{statement.ScopeExecution}}
	if until != nil {
		end := statement.NewTime(*until)
		g.Expires = &end
	}
	return p.says(g)
}

func (p *party) withdraws() []byte {
	return p.says(&statement.ConsentWithdraw{Scopes: []string{statement.ScopeExecution}})
}

// operator holds the ledger's key, and shows whom it likes what it likes. Its
// witnesses, where there are any, are real and served over HTTP.
type operator struct {
	t         testing.TB
	key       string
	signer    note.Signer
	witnesses governance.Witnesses
	group     *cosign.Group // nil without witnesses
	served    []*witness.Witness
	dirs      []string
}

func newOperator(t testing.TB, witnesses int) *operator {
	t.Helper()
	secret, public, err := note.GenerateKey(rand.Reader, "a-ledger")
	check(t, err)
	signer, err := note.NewSigner(secret)
	check(t, err)
	o := &operator{t: t, key: public, signer: signer}
	named := o.serveWitnesses(witnesses)
	if witnesses > 0 {
		o.group, err = cosign.New(named, 0)
		check(t, err)
	}
	return o
}

// log is one of the operator's logs, and behaves as a ledger does where a test
// does not bend it. It implements governance.Log.
type log struct {
	*operator
	entries [][]byte
	hashes  []tlog.Hash
	state   *governance.State

	published []byte                                      // the newest checkpoint
	append    func(entries [][]byte) [][]byte             // bends what is appended
	receipt   func(governance.Receipt) governance.Receipt // bends what is acknowledged
	read      func(from int64, entries [][]byte) [][]byte // bends what is read
	shown     func() []byte                               // another checkpoint than the newest
}

// shows makes a log of these entries, published.
func (o *operator) shows(entries ...[]byte) *log {
	o.t.Helper()
	l := &log{operator: o, state: &governance.State{}}
	for _, e := range entries {
		l.add(e)
	}
	check(o.t, l.publish(context.Background()))
	return l
}

// forkAt is another log that has the first n entries of this one.
func (l *log) forkAt(n int) *log {
	f := &log{operator: l.operator, state: &governance.State{}, published: l.published}
	for _, e := range l.entries[:n] {
		f.add(e)
	}
	return f
}

func (l *log) add(entry []byte) {
	size := int64(len(l.entries))
	more, err := tlog.StoredHashes(size, entry, l)
	check(l.t, err)
	_, _ = l.state.Apply(size, entry) // the operator puts in what it likes
	l.hashes, l.entries = append(l.hashes, more...), append(l.entries, bytes.Clone(entry))
}

// ReadHashes implements tlog.HashReader.
func (l *log) ReadHashes(indexes []int64) (list []tlog.Hash, err error) {
	for _, i := range indexes {
		list = append(list, l.hashes[i])
	}
	return list, nil
}

func (l *log) sign() []byte {
	root, err := tlog.TreeHash(int64(len(l.entries)), l)
	check(l.t, err)
	signed, err := note.Sign(&note.Note{Text: governance.NewCheckpoint(l.signer.Name(), int64(len(l.entries)), root)}, l.signer)
	check(l.t, err)
	return signed
}

// publish has the log cosigned, as far as there are witnesses. A ledger that gets
// no cosignatures still has a checkpoint of its own, and may show that.
func (l *log) publish(ctx context.Context) (err error) {
	l.published = l.sign()
	if l.group == nil {
		return nil
	}
	cosigned, err := l.group.Cosign(ctx, l.published, func(_ context.Context, old int64) (tlog.TreeProof, error) {
		return tlog.ProveTree(int64(len(l.entries)), old, l)
	})
	if err == nil {
		l.published = cosigned
	}
	return err
}

var _ governance.RunLog = (*log)(nil)

func (l *log) Contract(context.Context) (string, error) { return l.state.Agreed().Digest, nil }

func (l *log) Introduce(context.Context, *statement.RunBegin, statement.Signer) error { return nil }

func (l *log) Append(ctx context.Context, entries ...[]byte) (governance.Receipt, error) {
	if _, err := l.state.CheckAll(entries); err != nil {
		return governance.Receipt{}, err
	}
	r := governance.Receipt{Index: int64(len(l.entries)), Count: len(entries)}
	if l.append != nil {
		entries = l.append(entries)
	}
	for _, e := range entries {
		l.add(e)
	}
	// A malicious ledger acknowledges also what is not cosigned.
	_ = l.publish(ctx)
	r.Checkpoint = l.published
	if l.receipt != nil {
		r = l.receipt(r)
	}
	return r, nil
}

func (l *log) Checkpoint(context.Context) ([]byte, error) {
	if l.shown != nil {
		return l.shown(), nil
	}
	return l.published, nil
}

func (l *log) Entries(_ context.Context, from, to int64) ([][]byte, error) {
	if from >= to || to > int64(len(l.entries)) {
		return nil, errors.New("no such entries")
	}
	list := append([][]byte(nil), l.entries[from:to]...)
	if l.read != nil {
		list = l.read(from, list)
	}
	return list, nil
}

// begins begins a run of an enclave that is shown a log.
func (o *operator) begins(l governance.RunLog, p *party) (*governance.Run, error) {
	trust := governance.Trust{Ledger: o.key, Witnesses: o.witnesses, Specification: digest, ContainerPolicy: digest,
		Parties: []string{p.key.Public().Fingerprint()}}
	return governance.Begin(o.t.Context(), l, trust, func(context.Context, governance.Binding) (statement.Evidence, []byte, error) {
		return statement.Evidence{Platform: "simulated", Report: []byte("report")}, []byte("tls key"), nil
	})
}

// asks is an enclave's question whether it may take a step.
func asks(t testing.TB, r *governance.Run) error {
	t.Helper()
	return r.CheckConsent(t.Context(), statement.ScopeExecution, "a step")
}

// serveWitnesses makes and serves witnesses of the ledger, each as KEY@URL.
func (o *operator) serveWitnesses(n int) (named []string) {
	for range n {
		dir := filepath.Join(o.t.TempDir(), "witness")
		key, err := witness.Init(dir, "", o.key)
		check(o.t, err)
		w, err := witness.Open(dir)
		check(o.t, err)
		server := httptest.NewServer(w.Handler(slog.New(slog.DiscardHandler)))
		o.t.Cleanup(server.Close)
		named = append(named, key+"@"+server.URL)
		o.witnesses.Keys, o.served, o.dirs = append(o.witnesses.Keys, key), append(o.served, w), append(o.dirs, dir)
	}
	return named
}
