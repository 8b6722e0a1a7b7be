package main

import (
	"fmt"
	"time"

	"cloister/governance/statement"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// proposal is the statement that proposes a version, or amends to it, with the
// specification where both fit into an entry of the ledger. A contract that does not
// fit is refused before anything is signed.
func proposal(c *urfave.Context, name string, k statement.Contract, canonical []byte) (statement.Body, error) {
	body := func(specification []byte) statement.Body {
		if name == "propose" {
			return &statement.Propose{Contract: k, Specification: specification}
		}
		return &statement.Amend{Contract: k, Specification: specification}
	}
	size := func(b statement.Body) (int, error) {
		return statement.Size(statement.Statement{Body: b, Contract: k.ID, Time: time.Now(), Version: k.Version})
	}
	bare, err := size(body(nil))
	if err != nil {
		return nil, err
	}
	if bare > statement.MaxEntry {
		return nil, fault.Errorf(fault.Usage, "use fewer replicas or data sinks, of which each replica has its own; nothing was signed",
			"the contract pins %d volumes for %d parties, which takes up to %d bytes of an entry of the ledger; at most %d are allowed", len(k.Volumes), len(k.Parties), bare, statement.MaxEntry)
	}
	if len(canonical) <= statement.MaxSpecification {
		whole, err := size(body(canonical))
		if err != nil {
			return nil, err
		}
		if whole <= statement.MaxEntry {
			return body(canonical), nil
		}
	}
	fmt.Fprintf(c.App.ErrWriter, "the specification has %d bytes, too many for the ledger: hand the file to the other parties\n", len(canonical))
	return body(nil), nil
}
