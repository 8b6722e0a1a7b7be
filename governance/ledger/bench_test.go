package ledger

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"sync"
	"testing"
	"time"

	"cloister/governance"
	"cloister/governance/statement"
)

// chain signs n statements of a new run of the author's contract.
func (a *author) chain(n int) (entries [][]byte) {
	a.t.Helper()
	key, err := statement.GenerateKey(statement.Ed25519)
	check(a.t, err)
	var id [16]byte
	must(rand.Read(id[:]))
	root := (&governance.Frontier{}).Root()
	head := statement.Run{ID: hex.EncodeToString(id[:]), Checkpoint: statement.Checkpoint{Root: base64.StdEncoding.EncodeToString(root[:])}}
	for i := range n {
		var body statement.Body = &statement.RunRefusal{Reason: "why", Run: head, Step: "step"}
		if i == 0 {
			body = &statement.RunBegin{AuditKey: key.Public().SPKI(), ContractDigest: must(a.contract.Digest()), TLSKey: []byte("tls key"),
				Evidence: statement.Evidence{Platform: "simulated", Report: []byte("report")}, Run: head}
		}
		entry, err := statement.Sign(statement.Statement{Body: body, Contract: "trial", Time: time.Now(), Version: 1},
			statement.Signature{Signer: key, Counter: uint64(i) + 1})
		check(a.t, err)
		head.Previous = statement.EntryDigest(entry)
		entries = append(entries, entry)
	}
	return entries
}

// BenchmarkAppend is of appends that each wait for the checkpoint over them: by one
// run, on an idle ledger, and by 256 at once.
func BenchmarkAppend(b *testing.B) {
	for _, runs := range []int{1, 256} {
		b.Run(map[int]string{1: "idle", 256: "busy"}[runs], func(b *testing.B) {
			dir, a := initFor(b)
			l := open(b, dir)
			put(b, l, a.propose(), a.approve())
			chains := make([][][]byte, runs)
			for i := range chains {
				chains[i] = a.chain((b.N + runs - 1) / runs)
			}
			var mu sync.Mutex
			var took []time.Duration
			var all sync.WaitGroup
			b.ResetTimer()
			for _, chain := range chains {
				all.Go(func() {
					for _, entry := range chain {
						start := time.Now()
						if _, err := l.Append(b.Context(), entry); err != nil {
							b.Error(err)
						}
						mu.Lock()
						took = append(took, time.Since(start))
						mu.Unlock()
					}
				})
			}
			all.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "appends/s")
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
		})
	}
}

// BenchmarkOpen is of what an audit does with each entry: read, hash, fold.
func BenchmarkOpen(b *testing.B) {
	const entries = 10_000
	dir, a := initFor(b)
	l := open(b, dir)
	put(b, l, a.propose(), a.approve())
	for c := range slices.Chunk(a.chain(entries), governance.MaxAppend) {
		must(l.Append(b.Context(), c...))
	}
	for b.Loop() {
		open(b, dir)
	}
	b.ReportMetric(entries*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}
