package main

import (
	"fmt"
	"io"

	"cloister/governance"
	"cloister/governance/partyfile"
	"cloister/governance/statement"
	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/policy/spec"

	urfave "github.com/urfave/cli/v2"
)

// review is a contract in words, for somebody who decides about it.
type review struct {
	Contract string            `json:"contract"`
	Version  uint64            `json:"version"`
	Status   governance.Status `json:"status"`
	Digest   string            `json:"digest"` // what an approval approves
	For      string            `json:"for,omitempty"`
	Sections []section         `json:"sections"`
}

type section struct {
	Title string   `json:"title"`
	Says  []string `json:"says"`
}

func reviewCommand() *urfave.Command {
	return &urfave.Command{
		Name: "review", Usage: "say in words what the newest version lets whom do with whose data",
		Description: "The policies are made again here, and a contract that is not what the\n" +
			"specification comes to is refused. Without --specification it is the one in the\n" +
			"ledger. With --for the party's own data are marked.\n\n" +
			"JSON: contract, version, status, digest, for, sections (title, says).",
		Flags: append(append(readerFlags(), imageFlags()...), specificationFlag(), versionFlag(),
			text("for", "whose own data are marked: `PARTYFILE` or its document"), jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			_, view, done, err := openView(c)
			defer done()
			if err != nil {
				return err
			}
			r, err := reviewOf(c, view.State())
			if err != nil {
				return err
			}
			return printResult(c, r, func(stdout, _ io.Writer) { r.print(stdout) })
		}, "--ledger"),
	}
}

func reviewOf(c *urfave.Context, state *governance.State) (review, error) {
	k, digest, err := newest(c, state)
	if err != nil {
		return review{}, err
	}
	s, t, err := reviewed(c, state)
	if err != nil {
		return review{}, err
	}
	if err := t.verify(k, s); err != nil {
		return review{}, err
	}
	r := review{Contract: k.ID, Version: k.Version, Status: state.Status(), Digest: digest}
	if path := c.String("for"); path != "" {
		if r.For, err = partyIn(state, path); err != nil {
			return r, err
		}
	}
	r.Sections = reviewer{s, k, r.For}.sections()
	return r, nil
}

// reviewed is the specification that is looked at: one's own, or the ledger's.
func reviewed(c *urfave.Context, state *governance.State) (spec.Specification, digests, error) {
	if c.String("specification") != "" {
		return translate(c)
	}
	s, err := proposed(state)
	if err != nil {
		return s, digests{}, err
	}
	d, err := digestsFor(c, s)
	return s, d, err
}

func partyIn(state *governance.State, path string) (string, error) {
	p, err := partyfile.ReadDocument(path)
	if err != nil {
		return "", err
	}
	if name, ok := state.Party(p.Fingerprint()); ok {
		return name, nil
	}
	k, _ := state.Contract()
	if named, ok := k.Party(p.Name); ok && named.Fingerprint() == p.Fingerprint() {
		return p.Name, nil // by the key of before a rotation
	}
	return "", fault.Errorf(fault.NotFound, "give the document that the specification was made with", "%s with key %s is no party of contract %s", p.Name, statement.Digest(p.Key), k.ID)
}

func (r review) print(w io.Writer) {
	fmt.Fprintf(w, "contract %s version %d is %s\nan approval approves %s\n", r.Contract, r.Version, r.Status, r.Digest)
	if r.For != "" {
		fmt.Fprintf(w, "reviewed for %s\n", r.For)
	}
	for _, s := range r.Sections {
		fmt.Fprintf(w, "\n%s\n", s.Title)
		for _, line := range s.Says {
			fmt.Fprintf(w, "  - %s\n", cli.Printable(line))
		}
	}
}

// yours marks what is the reader's own.
func (r reviewer) yours(party string) string {
	if r.name != "" && party == r.name {
		return party + " (yours)"
	}
	return party
}
