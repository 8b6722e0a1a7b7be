//go:build !production

package evidence_test

import (
	"testing"

	"cloister/enclave/snp"
	"cloister/enclave/snp/simulated"
	"cloister/governance/statement"
	"cloister/internal/localcloud/platform"
)

var ledger = snp.Ledger{Key: "ledger.example+47b56cb0+AQcH", TLSKey: []byte("tls")}

// shown is what a machine shows about a statement.
func shown(t *testing.T, dir string, about snp.Statement) statement.Evidence {
	t.Helper()
	e, err := snp.Collect(t.Context(), simulated.New(dir), about)
	check(t, err)
	return statement.Evidence{Platform: "simulated-sev-snp", Report: e.Report, Certificates: e.HostCerts.PEM(), Endorsement: e.UVM}
}

// TestLedger: what a ledger shows is believed for its own keys, under the policy that
// was agreed, and for nothing else; nor is a run's for a ledger's, or the other way.
func TestLedger(t *testing.T) {
	dir := guest(t, platform.GuestConfig{})
	judge, good := judgeOf(t, dir), shown(t, dir, ledger)
	check(t, judge.Ledger(good, ledger.TLSKey, ledger.Key, digestOf(policy)))

	begin, contract := begun(t, dir)
	for name, tc := range map[string]struct {
		e      statement.Evidence
		tlsKey string
		key    string
		policy string
		names  string
	}{
		"another container policy": {good, "tls", ledger.Key, digestOf("another"), "host data"},
		"no container policy":      {good, "tls", ledger.Key, "", "container policy"},
		"another key":              {good, "tls", ledger.Key + "x", digestOf(policy), "report data"},
		"another TLS key":          {good, "another", ledger.Key, digestOf(policy), "report data"},
		"no TLS key":               {good, "", ledger.Key, digestOf(policy), "needs"},
		"a run's":                  {begin.Evidence, "tls", ledger.Key, digestOf(policy), "report data"},
		"one for key release":      {shown(t, dir, snp.KeyRelease{RuntimeData: []byte("{}")}), "tls", ledger.Key, digestOf(policy), "report data"},
		"no evidence":              {statement.Evidence{Platform: good.Platform}, "tls", ledger.Key, digestOf(policy), "certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, judge.Ledger(tc.e, []byte(tc.tlsKey), tc.key, tc.policy), tc.names)
		})
	}
	begin.Evidence = good
	refused(t, judge.Run(begin, contract), "report data")
	debug := guest(t, platform.GuestConfig{Debug: true})
	refused(t, judgeOf(t, debug).Ledger(shown(t, debug, ledger), ledger.TLSKey, ledger.Key, digestOf(policy)), "debugging")
}
