// Package evidence judges what a run shows of itself to those who were not there:
// a ledger that is to let it read, and auditors of its record; and what a ledger
// shows of itself to those who are to say something in it.
//
// Life of a judgement: Run makes the report's REPORT_DATA again from what the run
// begins with, takes HOST_DATA from the contract, and has package snp hold the
// report, its certificates and the utility VM's endorsement to both. Ledger does so
// with the ledger's keys, and the container policy that the specification names.
package evidence

import (
	"encoding/hex"
	"fmt"
	"strings"

	"cloister/enclave/snp"
	"cloister/governance/statement"
	"cloister/internal/fault"
)

// Judge is who is believed, and what is good enough. Every field is required.
type Judge struct {
	Platform  string // as evidence names it
	Anchors   snp.Anchors
	MinUVMSVN uint64 // lowest version of the utility VM
}

// Run refuses the evidence of a run unless it is of the judge's platform, of a
// container under the contract's policy, and binds the run's id, its keys and the
// contract version that it begins with. Nothing of begin is taken for granted but
// that it was parsed.
func (j Judge) Run(begin *statement.RunBegin, contract statement.Contract) error {
	about, err := reportData(begin)
	if err != nil {
		return err
	}
	return j.judge(begin.Evidence, contract.ContainerPolicy, about)
}

// Ledger refuses the evidence of a ledger unless it is of the judge's platform, of a
// container under the policy with this digest, "sha256:…", and binds the ledger's
// verifier key and the TLS key, SubjectPublicKeyInfo in DER, of who shows it.
func (j Judge) Ledger(e statement.Evidence, tlsKey []byte, key, containerPolicy string) error {
	about, err := snp.Ledger{Key: key, TLSKey: tlsKey}.ReportData()
	if err != nil {
		return fault.Errorf(fault.Refused, "", "the ledger's evidence: %w", err)
	}
	if err := j.judge(e, containerPolicy, about); err != nil {
		return fmt.Errorf("the ledger's evidence: %w", err)
	}
	return nil
}

// judge holds evidence about 64 bytes to a container policy.
func (j Judge) judge(shown statement.Evidence, containerPolicy string, about [64]byte) (err error) {
	if shown.Platform != j.Platform {
		return fault.Errorf(fault.Refused, "judge it as what it says it is", "it is of platform %.80q, not %s", shown.Platform, j.Platform)
	}
	var host [32]byte
	if err := fixed(host[:], strings.TrimPrefix(containerPolicy, "sha256:")); err != nil {
		return fmt.Errorf("the container policy: %w", err)
	}
	e := snp.Evidence{Report: shown.Report}
	e.UVM = shown.Endorsement
	if e.HostCerts, err = snp.ParseHostCerts(shown.Certificates); err != nil {
		return err
	}
	_, err = snp.Verify(&e, snp.Expectations{Anchors: j.Anchors, HostData: host[:], ReportData: about[:], SMT: snp.SMTAllowed, MinTCB: snp.BaseFloors(), MinUVMSVN: j.MinUVMSVN})
	return err
}

// reportData is the REPORT_DATA that a run's evidence must have.
func reportData(begin *statement.RunBegin) (data [64]byte, err error) {
	i := snp.Identity{AuditKey: begin.AuditKey, TLSKey: begin.TLSKey}
	if err := fixed(i.RunID[:], begin.Run.ID); err != nil {
		return data, fmt.Errorf("the run's id: %w", err)
	}
	if err := fixed(i.ContractDigest[:], strings.TrimPrefix(begin.ContractDigest, "sha256:")); err != nil {
		return data, fmt.Errorf("the contract's digest: %w", err)
	}
	if data, err = i.ReportData(); err != nil {
		return data, fault.Errorf(fault.Refused, keep, "what the report must be about: %w", err)
	}
	return data, nil
}

// keep is what to do with what no enclave of ours begins with.
const keep = "keep it: it is evidence of who made it"

// fixed decodes exactly len(to) bytes of hexadecimal.
func fixed(to []byte, text string) error {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(to) {
		return fault.Errorf(fault.Refused, keep, "%.100q is not %d bytes in hexadecimal", text, len(to))
	}
	copy(to, raw)
	return nil
}
