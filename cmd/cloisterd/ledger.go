package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"cloister/enclave/evidence"
	"cloister/governance"
	"cloister/governance/remote"
	"cloister/internal/fault"
	"cloister/policy/spec"

	urfave "github.com/urfave/cli/v2"
)

func ledgerFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "ledger", EnvVars: []string{"CLOISTER_LEDGER"},
		Usage: "the log's `URL`, with \",ca=FILE\" where its certificate is not the system's to trust (default: the specification's)"}
}

// openLedger opens the log at an address, and where there is none at the
// specification's: a deployed container is told no other, as its policy admits
// neither option nor variable. Nothing is believed for being there: what makes a
// log the agreed one is its key, and its evidence where the specification wants it.
func openLedger(address string, s spec.Specification, p platform) (*remote.Log, error) {
	log, err := findLedger(address, s.Governance)
	if err != nil || s.Governance.LedgerPolicy == "" {
		return log, err
	}
	// A ledger's place is a container, also where this is a VM.
	judge := evidence.Judge{Platform: strings.TrimSuffix(p.name, "-vtpm"), Anchors: p.anchors, MinUVMSVN: uint64(s.Attestation.MinSVN)}
	services, err := s.Attestation.TransparencyServices()
	judge.Anchors.UVMLedgers = slices.Concat(judge.Anchors.UVMLedgers, services)
	log.Demand(func(a remote.Attestation) error {
		return judge.Ledger(a.Evidence, a.TLSKey, s.Governance.LedgerKey, s.Governance.LedgerPolicy)
	})
	return log, err
}

func findLedger(address string, g spec.Governance) (*remote.Log, error) {
	if address != "" {
		return remote.Open(address, nil)
	}
	if g.Ledger == "" {
		return nil, fault.Errorf(fault.Usage, "give --ledger, or set it with cloister spec set governance --ledger URL", "neither the command line nor the specification says where the ledger is")
	}
	roots, err := g.LedgerRoots()
	if err != nil {
		return nil, err
	}
	return remote.New(remote.Options{URL: g.Ledger, Roots: roots})
}

// timedLog is a log whose appends are counted.
type timedLog struct {
	*remote.Log
	monitor *monitor
}

func (l timedLog) Append(ctx context.Context, entries ...[]byte) (governance.Receipt, error) {
	began := time.Now()
	receipt, err := l.Log.Append(ctx, entries...)
	l.monitor.appends.took(began, 0, err)
	return receipt, err
}
