package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"cloister/enclave/snp"
	"cloister/enclave/snp/simulated"
	"cloister/governance"
	"cloister/governance/ledger"
	"cloister/governance/statement"
	"cloister/governance/tiles"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sync/errgroup"
)

// A run of the log is as one of two volumes with an hour of an application that
// consent is asked for every ten minutes. In the log its evidence is a bare report: a
// processor's certificates would double the log and change no figure but that. What
// is appended has evidence that the ledger finds good.
const (
	runRecords  = 26
	reportBytes = 1184
)

// author signs the statements of a contract's two parties and of its runs.
type author struct {
	parties  [2]*statement.PrivateKey
	contract statement.Contract
	digest   string
	guest    string // the directory of a simulated container
}

func newAuthor(guest string) (a *author, err error) {
	a = &author{guest: guest}
	digest := statement.Digest(guestPolicy)
	a.contract = statement.Contract{ContainerPolicy: digest, ID: "bench", KeyReleasePolicy: digest, Specification: digest, Version: 1}
	for i, name := range []string{"analyst", "hospital"} {
		if a.parties[i], err = statement.GenerateKey(statement.P256); err != nil {
			return nil, err
		}
		a.contract.Parties = append(a.contract.Parties, statement.Party{Key: a.parties[i].Public().SPKI(), Name: name})
	}
	a.digest, err = a.contract.Digest()
	return a, err
}

// agrees is the contract, proposed, approved and consented to.
func (a *author) agrees() (entries [][]byte, err error) {
	bodies := []statement.Body{&statement.Approve{Digest: a.digest}, &statement.ConsentGrant{Scopes: []string{statement.ScopeExecution}}}
	said := make([]uint64, len(a.parties))
	say := func(party int, body statement.Body) {
		said[party]++
		entry, failed := statement.Sign(statement.Statement{Body: body, Contract: a.contract.ID, Time: time.Now(), Version: 1},
			statement.Signature{Signer: a.parties[party], Counter: said[party]})
		entries, err = append(entries, entry), errors.Join(err, failed)
	}
	say(0, &statement.Propose{Contract: a.contract})
	for _, body := range bodies {
		for party := range a.parties {
			say(party, body)
		}
	}
	return entries, err
}

// bare is evidence of its size, which nobody looks at.
func (a *author) bare(snp.Identity) (statement.Evidence, error) {
	report := make([]byte, reportBytes)
	rand.Read(report)
	return statement.Evidence{Platform: "simulated", Report: report}, nil
}

// attests is the guest's evidence.
func (a *author) attests(about snp.Identity) (statement.Evidence, error) {
	e, err := snp.Collect(context.Background(), simulated.New(a.guest), about)
	if err != nil {
		return statement.Evidence{}, err
	}
	return statement.Evidence{Platform: "simulated-sev-snp", Report: e.Report, Certificates: e.HostCerts.PEM(), Endorsement: e.UVM}, nil
}

// run signs the statements of a new run.
func (a *author) run(attest func(snp.Identity) (statement.Evidence, error)) (id string, entries [][]byte, err error) {
	key, err := statement.GenerateKey(statement.Ed25519)
	if err != nil {
		return "", nil, err
	}
	contract, err := hex.DecodeString(strings.TrimPrefix(a.digest, "sha256:"))
	if err != nil {
		return "", nil, err
	}
	var raw [16]byte
	var nonce [32]byte
	rand.Read(raw[:])
	rand.Read(nonce[:])
	tlsKey := []byte("a TLS key")
	evidence, err := attest(snp.Identity{RunID: raw, ContractDigest: [32]byte(contract), AuditKey: key.Public().SPKI(), TLSKey: tlsKey})
	if err != nil {
		return "", nil, err
	}
	empty := sha256.Sum256(nil)
	head := statement.Run{ID: hex.EncodeToString(raw[:]), Checkpoint: statement.Checkpoint{Root: base64.StdEncoding.EncodeToString(empty[:])}}
	say := func(make func(statement.Run) statement.Body) {
		entry, failed := statement.Sign(statement.Statement{Body: make(head), Contract: a.contract.ID, Time: time.Now(), Version: 1},
			statement.Signature{Signer: key, Counter: uint64(len(entries)) + 1})
		head.Previous = statement.EntryDigest(entry)
		entries, err = append(entries, entry), errors.Join(err, failed)
	}
	digest, err := evidence.Digest()
	if err != nil {
		return "", nil, err
	}
	consent := func(what string) func(statement.Run) statement.Body {
		return func(r statement.Run) statement.Body {
			return &statement.ConsentCheck{Evidence: digest, Nonce: hex.EncodeToString(nonce[:]), Run: r, Scope: statement.ScopeExecution, What: what}
		}
	}
	access := func(kind, volume string) {
		say(func(r statement.Run) statement.Body {
			return &statement.RecordAccess{Name: "https://vault.example/" + kind + "/" + volume, Run: r, Volume: volume, What: kind}
		})
	}
	say(func(r statement.Run) statement.Body {
		return &statement.RunBegin{AuditKey: key.Public().SPKI(), ContractDigest: a.digest, Evidence: evidence, Run: r, TLSKey: tlsKey}
	})
	for _, volume := range []string{"source", "report"} {
		say(consent("fetching the wrapped key"))
		access(statement.AccessWrappedDEK, volume)
		say(consent("releasing the key"))
		access(statement.AccessKEK, volume)
		access(statement.AccessData, volume)
	}
	execution := func(phase string, exit *int) {
		say(func(r statement.Run) statement.Body {
			return &statement.RecordExecution{Application: "count", Exit: exit, Phase: phase, Run: r}
		})
	}
	execution(statement.PhaseStart, nil)
	for i := range uint64(6) {
		say(consent("going on with count"))
		say(func(r statement.Run) statement.Body {
			return &statement.JournalHead{Epoch: 1, Head: statement.Digest(nonce[:]), Run: r, Sequence: i + 1, Volume: "report"}
		})
	}
	execution(statement.PhaseEnd, new(int))
	say(func(r statement.Run) statement.Body { return &statement.Completion{Complete: true, Run: r} })
	return head.ID, entries, err
}

// longLog is a ledger of at least so many entries.
type longLog struct {
	*author
	dir, key string
	entries  int
	last     string // id of the last run
}

// makeLog makes one as whoever has its key can: the entries go to Tessera at once,
// thousands at a time, and one checkpoint is signed over all. On a disk, as what
// appends cost is syncing.
func (l *lab) makeLog() (*longLog, error) {
	guest, err := l.guest()
	if err != nil {
		return nil, err
	}
	a, err := newAuthor(guest)
	if err != nil {
		return nil, err
	}
	parent, err := os.MkdirTemp("", "cloister-bench-ledger-")
	if err != nil {
		return nil, err
	}
	l.atEnd(func() error { return os.RemoveAll(parent) })
	log := &longLog{author: a, dir: filepath.Join(parent, "bench")}
	var parties []string
	for _, p := range a.contract.Parties {
		parties = append(parties, p.Fingerprint())
	}
	if log.key, err = ledger.Init(log.dir, "", parties...); err != nil {
		return nil, err
	}
	return log, log.fill(l.entries)
}

// together is how many entries an integration of the long log takes.
const together = 1 << 14

func (log *longLog) fill(n int) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	secret, err := os.ReadFile(filepath.Join(log.dir, "ledger.key"))
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(secret)))
	if err != nil {
		return err
	}
	driver, err := posix.New(ctx, posix.Config{Path: filepath.Join(log.dir, tiles.TileDir)})
	if err != nil {
		return err
	}
	appender, stop, _, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().WithCheckpointSigner(signer).
		WithBatching(together, time.Second).WithPushback(4*together))
	if err != nil {
		return err
	}
	var tree governance.Frontier
	entries, err := log.agrees()
	if err != nil {
		return err
	}
	for {
		var futures []tessera.IndexFuture
		for _, e := range entries {
			tree.Add(e)
			futures = append(futures, appender.Add(ctx, tessera.NewEntry(e)))
		}
		for _, wait := range futures {
			if _, err := wait(); err != nil {
				return err
			}
		}
		if log.entries = int(tree.Size()); log.entries >= n {
			break
		}
		if entries, err = log.runs(min(together, n-log.entries), log.bare); err != nil {
			return err
		}
	}
	if err := stop(ctx); err != nil {
		return err
	}
	signed, err := note.Sign(&note.Note{Text: governance.NewCheckpoint(signer.Name(), tree.Size(), tree.Root())}, signer)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(log.dir, tiles.CheckpointPath), signed, 0o644)
}

// runs signs as many runs as have at least n records together.
func (log *longLog) runs(n int, attest func(snp.Identity) (statement.Evidence, error)) ([][]byte, error) {
	runs := make([][][]byte, (n+runRecords-1)/runRecords)
	ids := make([]string, len(runs))
	var g errgroup.Group
	g.SetLimit(runtime.NumCPU())
	for i := range runs {
		g.Go(func() (err error) {
			ids[i], runs[i], err = log.run(attest)
			if err == nil && len(runs[i]) != runRecords {
				err = fmt.Errorf("a run of %d records, want %d", len(runs[i]), runRecords)
			}
			return err
		})
	}
	err := g.Wait()
	log.last = ids[len(ids)-1]
	return slices.Concat(runs...), err
}
