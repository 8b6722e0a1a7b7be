package adversary

import (
	"fmt"
	"path/filepath"
	"testing"

	"cloister/governance/cosign"
	"cloister/governance/ledger"
)

// BenchmarkAppend is an append to a ledger on this machine's disk with its
// witnesses over loopback, one at a time: what cosigning adds to its latency.
func BenchmarkAppend(b *testing.B) {
	for _, witnesses := range []int{0, 1, 3} {
		b.Run(fmt.Sprintf("witnesses=%d", witnesses), func(b *testing.B) {
			p, dir := newParty(b), filepath.Join(b.TempDir(), "ledger")
			key, err := ledger.Init(dir, "", p.key.Public().Fingerprint())
			check(b, err)
			var options []ledger.Option
			if witnesses > 0 {
				group, err := cosign.New((&operator{t: b, key: key}).serveWitnesses(witnesses), 0)
				check(b, err)
				options = append(options, ledger.WithCosign(group.Cosign))
			}
			l, err := ledger.Open(b.Context(), dir, options...)
			check(b, err)
			defer l.Close()
			for _, e := range p.agrees() {
				_, err := l.Append(b.Context(), e)
				check(b, err)
			}
			for b.Loop() {
				_, err := l.Append(b.Context(), p.grants(nil))
				check(b, err)
			}
		})
	}
}
