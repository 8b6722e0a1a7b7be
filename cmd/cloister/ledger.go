package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"cloister/governance"
	"cloister/governance/ledger"
	"cloister/governance/statement"

	urfave "github.com/urfave/cli/v2"
)

// ledgerCommand is "cloister ledger": the record on files.
func ledgerCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "ledger",
		Usage: "a contract's record on files of this machine",
		Description: "Parties that share a ledger on files believe whoever owns the files about there\n" +
			"being nothing newer. What is in it nobody can forge: every entry is signed.",
		Subcommands: []*urfave.Command{{
			Name:      "init",
			Usage:     "make a ledger in DIR; prints its verifier key, for the specification",
			ArgsUsage: "DIR",
			Flags:     []urfave.Flag{jsonFlag()},
			Action: action(func(c *urfave.Context, args []string) error {
				key, err := ledger.Init(args[0], "")
				if err != nil {
					return err
				}
				return printResult(c, map[string]string{"key": key}, func(stdout, _ io.Writer) { fmt.Fprintln(stdout, key) })
			}, "DIR"),
		}},
	}
}

func ledgerFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "ledger", Usage: "the ledger's `DIR`"}
}

func partyFlags() []urfave.Flag {
	return []urfave.Flag{ledgerFlag(),
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

// openView opens the ledger and follows its log to the newest checkpoint.
func openView(ctx context.Context, dir string) (*ledger.Ledger, *governance.View, error) {
	l, err := ledger.Open(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	view := governance.NewView(l.Key())
	return l, view, view.AdvanceToNewest(ctx, l, nil)
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
	l, view, err := openView(c.Context, c.String("ledger"))
	if err != nil {
		return said{}, err
	}
	name, key, err := readParty(c, c.String("party"))
	if err != nil {
		return said{}, err
	}
	defer key.Destroy()
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
	if err != nil {
		return said{}, fmt.Errorf("%s by %s: %w", b.Type(), name, err)
	}
	return said{b.Type(), name, receipt.Index, contract, version}, nil
}
