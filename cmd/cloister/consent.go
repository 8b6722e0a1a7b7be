package main

import (
	"time"

	"cloister/governance"
	"cloister/governance/statement"

	urfave "github.com/urfave/cli/v2"
)

// consentCommand is "cloister consent": yes or no to running what was agreed.
func consentCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "consent",
		Usage:       "let the agreed clean room run, or stop it",
		Subcommands: []*urfave.Command{consentGrantCommand(), consentWithdrawCommand()},
	}
}

func consentGrantCommand() *urfave.Command {
	return &urfave.Command{
		Name: "grant", Usage: "consent to running the newest version of the contract",
		Flags: append(partyFlags(),
			&urfave.DurationFlag{Name: "for", Usage: "for how `LONG`; no end when left out"},
			&urfave.Uint64Flag{Name: "runs", Usage: "for at most `N` runs; any number when left out"}),
		Action: func(c *urfave.Context) error {
			return say(c, func(s *governance.State, _ string) (statement.Body, string, uint64, error) {
				k, _ := s.Contract()
				grant := &statement.ConsentGrant{Scopes: []string{statement.ScopeExecution}, Runs: c.Uint64("runs")}
				if d := c.Duration("for"); d > 0 {
					end := statement.NewTime(time.Now().Add(d))
					grant.Expires = &end
				}
				return grant, k.ID, k.Version, nil
			})
		},
	}
}

func consentWithdrawCommand() *urfave.Command {
	return &urfave.Command{
		Name: "withdraw", Usage: "take consent back; a running clean room ends at its next question",
		Flags: append(partyFlags(), reasonFlag()),
		Action: func(c *urfave.Context) error {
			return say(c, func(s *governance.State, _ string) (statement.Body, string, uint64, error) {
				k, _ := s.Contract()
				return &statement.ConsentWithdraw{Scopes: []string{statement.ScopeExecution}, Reason: c.String("reason")}, k.ID, k.Version, nil
			})
		},
	}
}
