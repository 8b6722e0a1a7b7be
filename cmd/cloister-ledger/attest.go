package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"

	"cloister/enclave/evidence"
	"cloister/enclave/snp"
	"cloister/enclave/snp/hardware"
	"cloister/enclave/snp/simulated"
	"cloister/governance/ledger"
	"cloister/governance/remote"
	"cloister/governance/statement"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// createLog makes the log of an attested ledger. It takes no key that was there
// before, which whoever has the directory may know.
func createLog(c *urfave.Context, judge evidence.Judge) (map[string]*ledger.Ledger, error) {
	if c.NArg() != 1 || c.String("certificate") != "" || c.Bool("anyone-reads") {
		return nil, fault.Errorf(fault.Usage, "cloister-ledger serve --attest --party DOCUMENT DIR", "an attested ledger is one log in one new directory, with a TLS key of its own, and is read by who may")
	}
	path, name, err := logName(c.Args().First())
	if err != nil {
		return nil, err
	}
	parties, err := fingerprints(c)
	if err != nil {
		return nil, err
	}
	options, err := witnessed(c)
	if err != nil {
		return nil, err
	}
	l, err := ledger.Create(c.Context, path, parties, append(options, ledger.WithEvidence(judge.Run))...)
	if fault.KindOf(err) == fault.Conflict {
		err = fault.Errorf(fault.Conflict, "name a new directory: the key of an attested ledger ended with its process, and its parties agree on a new one", "%w", err)
	}
	return map[string]*ledger.Ledger{name: l}, err
}

// attest has the platform say of each log that its key and the server's are in this
// container.
func attest(c *urfave.Context, logs map[string]*ledger.Ledger, config *tls.Config) (map[string]remote.Attestation, error) {
	if !c.Bool("attest") {
		return nil, nil
	}
	m, platform := machine(c.String("platform"))
	server, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
	if err != nil {
		return nil, err
	}
	shown := map[string]remote.Attestation{}
	for name, l := range logs {
		about := snp.Ledger{Key: l.Key(), TLSKey: server.RawSubjectPublicKeyInfo}
		e, _, err := snp.Prove(c.Context, m, snp.Requirements{SMT: snp.SMTAllowed, MinTCB: snp.BaseFloors(), MinUVMSVN: c.Uint64("min-svn")}, about)
		if err != nil {
			return nil, fmt.Errorf("attesting the ledger: %w", err)
		}
		shown[name] = remote.Attestation{Key: about.Key, TLSKey: about.TLSKey,
			Evidence: statement.Evidence{Platform: platform, Report: e.Report, Certificates: e.HostCerts.PEM(), Endorsement: e.UVM}}
	}
	return shown, nil
}

// machine is the platform of this name, which evidence.Named knows, and what evidence
// calls it.
func machine(name string) (snp.Machine, string) {
	if dir, played := strings.CutPrefix(name, simulated.Name+":"); played {
		return simulated.New(dir), simulated.Name + "-sev-snp"
	}
	return hardware.Platform{}, "sev-snp"
}
