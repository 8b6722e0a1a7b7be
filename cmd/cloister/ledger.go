package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"

	"cloister/enclave/evidence"
	"cloister/governance"
	"cloister/governance/remote"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/policy/spec"

	urfave "github.com/urfave/cli/v2"
)

func ledgerFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "ledger", Usage: "the log's `URL`, with \",ca=FILE\" where its certificate is not the system's to trust, and \",platform=simulated:DIR\" where it is attested by cloister local's; for reading, also a ledger's directory"}
}

// readerFlags name a log that is read, and who reads.
func readerFlags() []urfave.Flag {
	return []urfave.Flag{ledgerFlag(), headsFlag(), &urfave.StringFlag{Name: "party", Usage: "the signing key of the party who reads, `PARTYFILE`"}}
}

func partyFlags() []urfave.Flag {
	return []urfave.Flag{ledgerFlag(), headsFlag(),
		&urfave.StringFlag{Name: "party", Usage: "the signing key of the party who speaks, `PARTYFILE`"}}
}

// saysTakes is what a party's statement cannot do without.
func saysTakes(more ...string) []string { return append([]string{"--ledger", "--party"}, more...) }

// said is what a statement reports.
type said struct {
	Type     statement.Type `json:"type"`
	Party    string         `json:"party"`
	Entry    int64          `json:"entry"`
	Contract string         `json:"contract"`
	Version  uint64         `json:"version"`
}

// findLog returns the log that --ledger names, its key, and what lets go of the key
// of the party that reads. Where --specification is given, the ledger must be what
// that says.
func findLog(c *urfave.Context) (log remote.Keyed, key string, done func(), err error) {
	var of *spec.Specification
	if path := c.String("specification"); path != "" {
		s, err := loadSpec(path)
		if err != nil {
			return nil, "", func() {}, err
		}
		of = &s
	}
	return findLogOf(c, of)
}

// findLogOf is findLog with this specification, nil for none.
func findLogOf(c *urfave.Context, s *spec.Specification) (log remote.Keyed, key string, done func(), err error) {
	done = func() {}
	var signer statement.Signer
	if path := c.String("party"); path != "" {
		_, private, err := readParty(c, path)
		if err != nil {
			return nil, "", done, err
		}
		signer, done = private, private.Destroy
	}
	if log, err = remote.Find(c.String("ledger"), signer); err == nil && s != nil {
		err = demand(log, *s)
	}
	if err == nil {
		key, err = log.Key(c.Context)
	}
	return log, key, done, err
}

// demand has a ledger prove what the specification says that it must be, before
// anything is said to it. A directory, which only reads, proves nothing: what is
// signed there is signed by the key that the specification pins.
func demand(log remote.Keyed, s spec.Specification) error {
	g := s.Governance
	at, ok := log.(*remote.Log)
	if g.LedgerPolicy == "" || !ok {
		return nil
	}
	judge, err := ledgerJudge(at.Platform, s)
	if err != nil {
		return err
	}
	at.Demand(func(a remote.Attestation) error {
		return judge.Ledger(a.Evidence, a.TLSKey, g.LedgerKey, g.LedgerPolicy)
	})
	return nil
}

func ledgerJudge(platform string, s spec.Specification) (evidence.Judge, error) {
	if platform == "" && s.Kind == spec.Simulated {
		return evidence.Judge{}, fault.Errorf(fault.Usage, "add ,platform=simulated:DIR to --ledger, the folder of cloister local", "the ledger is to be attested by a simulated platform, and which one is not said")
	}
	judge, err := evidence.Named(cmp.Or(platform, "amd"), uint64(s.Attestation.MinSVN))
	if err != nil {
		return judge, err
	}
	services, err := s.Attestation.TransparencyServices()
	judge.Anchors.UVMLedgers = slices.Concat(judge.Anchors.UVMLedgers, services)
	return judge, err
}

// trusted returns whose signatures a checkpoint needs: what --specification says
// where it is given. Without it the log is believed about its own key, and no
// witness is asked for.
func trusted(c *urfave.Context, key string) (string, governance.Witnesses, error) {
	if c.String("specification") == "" {
		return key, governance.Witnesses{}, nil
	}
	s, err := loadSpec(c.String("specification"))
	g := s.Governance
	return g.LedgerKey, governance.Witnesses{Keys: g.Witnesses, Threshold: g.Threshold}, err
}

// openView follows the log to its newest checkpoint, from what was seen of it before.
// done lets go of the key of
// the party that reads, without which the log tells nothing more.
func openView(c *urfave.Context) (log governance.Log, view *watched, done func(), err error) {
	log, key, done, err := findLog(c)
	if err != nil {
		return nil, nil, done, err
	}
	key, witnesses, err := trusted(c, key)
	if err != nil {
		return nil, nil, done, err
	}
	if view, err = newWatched(c, key, witnesses); err != nil {
		return nil, nil, done, err
	}
	return log, view, done, view.follow(c.Context, log, nil)
}

// say appends a party's statement about the newest version of the contract, and
// prints it. body is given the state to speak about; for a proposal that is
// empty.
func say(c *urfave.Context, body func(s *governance.State, party string) (b statement.Body, contract string, version uint64, err error)) error {
	done, err := speak(c, body)
	if err != nil {
		return err
	}
	return printResult(c, done, func(stdout, _ io.Writer) { fmt.Fprintln(stdout, done) })
}

func (s said) String() string {
	return fmt.Sprintf("%s by %s, entry %d of contract %s version %d", s.Type, s.Party, s.Entry, s.Contract, s.Version)
}

// speak is say without the print.
func speak(c *urfave.Context, body func(s *governance.State, party string) (b statement.Body, contract string, version uint64, err error)) (said, error) {
	name, key, err := readParty(c, c.String("party"))
	if err != nil {
		return said{}, err
	}
	defer key.Destroy()
	l, view, done, err := openView(c)
	defer done()
	if err != nil {
		return said{}, err
	}
	b, contract, version, err := body(view.State(), name)
	if err != nil {
		return said{}, err
	}
	now := time.Now()
	entry, err := statement.Sign(statement.Statement{Body: b, Contract: contract, Time: now, Version: version},
		statement.Signature{Signer: key, Counter: view.State().NextCounter(key.Public().Fingerprint(), now)})
	if err != nil {
		return said{}, err
	}
	receipt, err := l.Append(c.Context, entry)
	if err == nil {
		err = view.Advance(c.Context, l, receipt.Checkpoint, nil)
	}
	if err == nil {
		err = view.remember()
	}
	if err != nil {
		return said{}, fmt.Errorf("%s by %s: %w", b.Type(), name, err)
	}
	return said{b.Type(), name, receipt.Index, contract, version}, nil
}
