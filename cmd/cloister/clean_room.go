package main

import (
	"encoding/hex"
	"fmt"
	"strings"

	"cloister/attested"
	"cloister/enclave/snp"
	"cloister/governance"
	"cloister/internal/fault"
	"cloister/policy/spec"

	urfave "github.com/urfave/cli/v2"
)

// roomFlags say which clean room a client means to talk to, and who is believed
// about it.
func roomFlags() []urfave.Flag {
	return append(readerFlags(), specificationFlag(), versionFlag(),
		&urfave.StringFlag{Name: "run", Usage: "only this run, its `ID`; by default any that carries the contract out"},
		&urfave.StringFlag{Name: "platform", Usage: "whose evidence it is: `amd`, or simulated:GUESTDIR for a guest of cloister local"},
		&urfave.Uint64Flag{Name: "min-svn", Usage: "the lowest version `N` of the utility VM that is good enough, if above the specification's", Value: minimumUVMSVN})
}

// roomClient follows the contract's log and returns a client that talks to what
// was agreed on, and to nothing else.
func roomClient(c *urfave.Context) (*attested.Client, error) {
	want, err := agreedRoom(c)
	return attested.New(want), err
}

// agreedRoom is what the newest accepted contract says that a clean room is.
func agreedRoom(c *urfave.Context) (attested.Expect, error) {
	_, view, done, err := openView(c)
	defer done()
	if err != nil {
		return attested.Expect{}, err
	}
	return expected(c, view.View)
}

func expected(c *urfave.Context, view *governance.View) (want attested.Expect, err error) {
	k, digest, err := newest(c, view.State())
	if err != nil {
		return want, err
	}
	if s := view.State().Status(); s != governance.Accepted {
		return want, fault.Errorf(fault.Conflict, "see cloister contract status", "contract %s version %d is %s, not accepted: no clean room carries it out", k.ID, k.Version, s)
	}
	s, err := specificationOf(c, view.State())
	if err != nil {
		return want, err
	}
	if want.Platform, err = platformExpected(c, s); err != nil {
		return want, err
	}
	if want.Contract, err = digestBytes(digest); err != nil {
		return want, err
	}
	if want.HostData, err = digestBytes(k.ContainerPolicy); err != nil {
		return want, err
	}
	want.Run = c.String("run")
	want.Checkpoint = checkpointJudge(s, view)
	return want, nil
}

// specificationOf is the one that the contract pins: the ledger's, or where that
// has none the file.
func specificationOf(c *urfave.Context, s *governance.State) (spec.Specification, error) {
	if s.Specification() != nil || c.String("specification") == "" {
		return proposed(s)
	}
	given, err := loadSpec(c.String("specification"))
	if err != nil {
		return given, err
	}
	digest, err := given.Digest()
	if k, _ := s.Contract(); err == nil && digest != k.Specification {
		err = fault.Errorf(fault.Refused, "give the specification that the parties agreed on", "the contract is about specification %s, %s has the digest %s", k.Specification, c.String("specification"), digest)
	}
	return given, err
}

func platformExpected(c *urfave.Context, s spec.Specification) (snp.Expectations, error) {
	anchors, err := anchorsOf(c.String("platform"))
	if err != nil {
		return snp.Expectations{}, err
	}
	ledgers, err := s.Attestation.TransparencyServices()
	anchors.UVMLedgers = append(anchors.UVMLedgers, ledgers...)
	return snp.Expectations{Anchors: anchors, SMT: snp.SMTAllowed, MinTCB: snp.BaseFloors(),
		MinUVMSVN: max(c.Uint64("min-svn"), uint64(s.Attestation.MinSVN))}, err
}

// checkpointJudge: the clean room has read the log that was followed here, signed
// and cosigned as the specification has it.
func checkpointJudge(s spec.Specification, view *governance.View) func([]byte) error {
	g := s.Governance
	witnesses := governance.Witnesses{Keys: g.Witnesses, Threshold: g.Threshold}
	ours, _ := view.Checkpoint()
	return func(signed []byte) error {
		theirs, err := governance.OpenCheckpoint(signed, g.LedgerKey)
		if err != nil {
			return err
		}
		if _, err := witnesses.Cosigned(signed); err != nil {
			return err
		}
		if theirs.Size == ours.Size && theirs.Root != ours.Root {
			return fmt.Errorf("the ledger showed the clean room another log of %d entries than this client", ours.Size)
		}
		return nil
	}
}

func digestBytes(digest string) (out [32]byte, err error) {
	raw, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
	if err != nil || len(raw) != len(out) {
		return out, fault.Errorf(fault.Refused, "", "%.80q is not a digest", digest)
	}
	return [32]byte(raw), nil
}
