package main

import (
	"encoding/hex"
	"fmt"
	"os"
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
		&urfave.StringFlag{Name: "export", Usage: "take the contract from this `FILE` of audit export, in place of a ledger; --specification says whose record is believed"},
		&urfave.StringFlag{Name: "run", Usage: "only this run, its `ID`; by default any that carries the contract out"},
		&urfave.StringFlag{Name: "platform", Usage: "whose evidence it is: `amd`, or simulated:GUESTDIR for a guest of cloister local"},
		&urfave.Uint64Flag{Name: "min-svn", Usage: "the lowest version `N` of the utility VM that is good enough, if above the specification's", Value: minimumUVMSVN})
}

// roomClient follows the contract's log and returns a client that talks to what
// was agreed on, and to nothing else.
func roomClient(c *urfave.Context) (*attested.Client, error) {
	want, _, err := agreedRoom(c)
	return attested.New(want), err
}

// agreedRoom is what the newest accepted contract says that a clean room is, and its
// specification.
func agreedRoom(c *urfave.Context) (want attested.Expect, s spec.Specification, err error) {
	if (c.String("ledger") == "") == (c.String("export") == "") {
		return want, s, fault.Errorf(fault.Usage, "give one of them", "%s takes --ledger or --export", c.Command.HelpName)
	}
	if c.String("export") != "" {
		view, err := openExport(c)
		if err != nil {
			return want, s, err
		}
		return expected(c, view)
	}
	_, view, done, err := openView(c)
	defer done()
	if err != nil {
		return want, s, err
	}
	return expected(c, view.View)
}

// openExport folds a whole exported record. It is as old as it is: a clean room that
// carries out a later version is refused, as one of another contract is.
func openExport(c *urfave.Context) (*governance.View, error) {
	if c.String("specification") == "" {
		return nil, fault.Errorf(fault.Usage, "give the specification that the parties agreed on", "--export without --specification: a file says nothing of whose record it is")
	}
	f, err := os.Open(c.String("export"))
	if err != nil {
		return nil, fault.Errorf(fault.NotFound, "", "--export: %w", err)
	}
	defer f.Close()
	x, err := governance.OpenExport(f)
	if err != nil {
		return nil, err
	}
	if x.Head.Run != "" {
		return nil, fault.Errorf(fault.Usage, "export it without --run", "--export has one run's entries: whether its contract is accepted takes the whole record")
	}
	key, witnesses, err := trusted(c, "")
	if err != nil {
		return nil, err
	}
	view := governance.NewCosignedView(key, witnesses)
	return view, view.AdvanceToNewest(c.Context, x, nil)
}

func expected(c *urfave.Context, view *governance.View) (want attested.Expect, s spec.Specification, err error) {
	k, digest, err := newest(c, view.State())
	if err != nil {
		return want, s, err
	}
	if status := view.State().Status(); status != governance.Accepted {
		return want, s, fault.Errorf(fault.Conflict, "see cloister contract status", "contract %s version %d is %s, not accepted: no clean room carries it out", k.ID, k.Version, status)
	}
	if s, err = specificationOf(c, view.State()); err != nil {
		return want, s, err
	}
	if want.Platform, err = platformExpected(c, s); err != nil {
		return want, s, err
	}
	if want.Contract, err = digestBytes(digest); err != nil {
		return want, s, err
	}
	if want.HostData, err = digestBytes(k.ContainerPolicy); err != nil {
		return want, s, err
	}
	want.Run = c.String("run")
	want.Checkpoint = checkpointJudge(s, view)
	return want, s, nil
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
