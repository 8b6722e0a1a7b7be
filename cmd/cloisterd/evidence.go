package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"

	"cloister/enclave/azurekeys"
	"cloister/enclave/snp"
	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/policy/spec"
)

// platform is where the runtime runs, and who is believed about it.
type platform struct {
	azurekeys.Platform
	anchors   snp.Anchors
	name      string // in the record
	simulated bool
	vm        *snp.VMExpectations // of a confidential VM
}

// fits refuses a specification for another kind of place than this.
func (p platform) fits(kind spec.Kind, chosen string) error {
	vm := kind == spec.CVM || kind == spec.Simulated && p.vm != nil
	if (kind == spec.Simulated) == p.simulated && vm == (p.vm != nil) {
		return nil
	}
	return fault.Errorf(fault.Refused, "run it on the platform that the parties agreed on",
		"the specification is of kind %s, this platform is %s", kind, chosen)
}

// beginRun binds a fresh audit key to the machine's evidence and begins the
// run of the contract that the measured specification admits.
func (r *room) beginRun(ctx context.Context, log governance.RunLog, specification string) (*governance.Run, error) {
	secctx, err := r.platform.SecurityContext()
	if err != nil {
		return nil, fmt.Errorf("reading the security context: %w", err)
	}
	g := r.spec.Governance
	trust := governance.Trust{Ledger: g.LedgerKey, Specification: specification,
		Witnesses:       governance.Witnesses{Keys: g.Witnesses, Threshold: g.Threshold},
		ContainerPolicy: fmt.Sprintf("sha256:%x", secctx.HostData())}
	if r.replica != nil {
		trust.Replicas, trust.Replica = r.replica.Count, r.replica.Index
	}
	for _, p := range r.spec.Parties {
		fingerprint, err := p.Fingerprint()
		if err != nil {
			return nil, err
		}
		trust.Parties = append(trust.Parties, fingerprint)
	}
	return governance.Begin(ctx, log, trust, r.attestRun)
}

// attestRun makes the one identity report of this process. The TLS key is bound
// now, as a report cannot be amended; endpoints show both.
func (r *room) attestRun(ctx context.Context, b governance.Binding) (statement.Evidence, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return statement.Evidence{}, nil, err
	}
	tlsKey, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return statement.Evidence{}, nil, err
	}
	about := snp.Identity{RunID: b.RunID, ContractDigest: b.ContractDigest, AuditKey: b.AuditKey, TLSKey: tlsKey}
	want, err := demands(r.spec, r.platform)
	if err != nil {
		return statement.Evidence{}, nil, err
	}
	e, _, err := snp.Prove(ctx, r.platform.Platform, want, about)
	if err != nil {
		return statement.Evidence{}, nil, err
	}
	if e.Quote != nil {
		return statement.Evidence{}, nil, fault.Errorf(fault.Refused, "run it in a confidential container",
			"a run's record has no place for a TPM quote, so the parties could not judge this confidential VM")
	}
	if r.identity, err = identityOf(key, about, e); err != nil {
		return statement.Evidence{}, nil, err
	}
	return statement.Evidence{Platform: r.platform.name, Report: e.Report, Certificates: e.HostCerts.PEM(), Endorsement: e.UVM}, tlsKey, nil
}
