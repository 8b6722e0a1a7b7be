package page_test

import (
	"encoding/hex"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"cloister/governance"
	"cloister/governance/page"
	"cloister/governance/statement"
)

// BenchmarkLoad says how long a long record takes to be shown and verified, and
// what memory it takes: CLOISTER_ENTRIES entries, 100,000 where it is not set.
func BenchmarkLoad(b *testing.B) {
	entries := 100_000
	if n, err := strconv.Atoi(os.Getenv("CLOISTER_ENTRIES")); err == nil {
		entries = n
	}
	s := newSite(b)
	k, digest := s.contract(1)
	s.say("hospital", 1, &statement.Propose{Contract: k})
	for _, party := range []string{"hospital", "lab"} {
		s.say(party, 1, &statement.Approve{Digest: digest})
	}
	var writers sync.WaitGroup
	for w := range 16 { // at once, as a ledger commits what waits together
		writers.Go(func() {
			for n := w; n < entries/64; n += 16 {
				if _, err := s.ledger.Append(b.Context(), s.manyRecords(digest, n)...); err != nil {
					b.Error(err)
				}
			}
		})
	}
	writers.Wait()
	server := httptest.NewServer(page.Local(s.ledger))
	b.Cleanup(server.Close)
	address := server.URL + "/page/#key=" + url.QueryEscape(s.key)
	for b.Loop() {
		cmd := exec.CommandContext(b.Context(), "node", "../../internal/chromium/load.mjs", address)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		s.check(err)
		fmt.Printf("%d entries: %s", s.size(), out)
	}
}

// manyRecords is a run of 64 records.
func (s *site) manyRecords(digest string, n int) (list [][]byte) {
	key, err := statement.GenerateKey(statement.Ed25519)
	s.check(err)
	root := (&governance.Frontier{}).Root()
	head := statement.Run{Checkpoint: statement.Checkpoint{Root: base64Of(root[:])}, ID: hex.EncodeToString(fmt.Appendf(nil, "%016d", n))}
	for i := range 64 {
		var body statement.Body = &statement.RunRefusal{Reason: "not now", Run: head, Step: "data"}
		switch i {
		case 0:
			body = &statement.RunBegin{AuditKey: key.Public().SPKI(), ContractDigest: digest, Evidence: statement.Evidence{Platform: "simulated", Report: make([]byte, 1184)}, Run: head}
		case 63:
			body = &statement.Completion{Complete: true, Run: head}
		}
		entry, err := statement.Sign(statement.Statement{Body: body, Contract: "study", Time: time.Now(), Version: 1}, statement.Signature{Signer: key, Counter: uint64(i) + 1})
		s.check(err)
		head.Previous = statement.EntryDigest(entry)
		list = append(list, entry)
	}
	return list
}
