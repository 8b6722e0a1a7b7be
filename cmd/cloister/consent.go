package main

import (
	"errors"
	"time"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/fault"

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
		Flags: append(partyFlags(), specificationFlag(),
			&urfave.DurationFlag{Name: "for", Usage: "for so `LONG`, such as 36h", DefaultText: "without end"},
			&urfave.Uint64Flag{Name: "runs", Usage: "for at most `N` runs", DefaultText: "any number"},
			jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			if c.Duration("for") < 0 {
				return fault.Errorf(fault.Usage, "give a time such as 36h", "--for %v is in the past", c.Duration("for"))
			}
			return say(c, func(s *governance.State, _ string) (statement.Body, string, uint64, error) {
				k, _, err := newest(s)
				if err != nil {
					return nil, "", 0, err
				}
				grant := &statement.ConsentGrant{Scopes: []string{statement.ScopeExecution}, Runs: c.Uint64("runs")}
				if d := c.Duration("for"); d > 0 {
					end := statement.NewTime(time.Now().Add(d))
					grant.Expires = &end
				}
				return grant, k.ID, k.Version, nil
			})
		}, saysTakes()...),
	}
}

func consentWithdrawCommand() *urfave.Command {
	return &urfave.Command{
		Name: "withdraw", Usage: "take consent back; a running clean room ends at its next question",
		Description: "With --witness, the party's witness stops cosigning whatever the ledger says, so\n" +
			"that a ledger that hides the withdrawal ends the clean room too. Afterwards\n" +
			"`cloister witness resume DIR` lets it cosign again.",
		Flags: append(partyFlags(), specificationFlag(), reasonFlag(),
			&urfave.StringFlag{Name: "witness", Usage: "also withdraw the party's witness, in `DIR`"}, jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			said := say(c, func(s *governance.State, _ string) (statement.Body, string, uint64, error) {
				k, _, err := newest(s)
				if err != nil {
					return nil, "", 0, err
				}
				return &statement.ConsentWithdraw{Scopes: []string{statement.ScopeExecution}, Reason: c.String("reason")}, k.ID, k.Version, nil
			})
			if dir := c.String("witness"); dir != "" {
				return errors.Join(said, withdrawWitness(dir, c.String("reason")))
			}
			return said
		}, saysTakes()...),
	}
}
