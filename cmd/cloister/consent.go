package main

import (
	"errors"
	"slices"
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

// allScopes are what can be consented to, in rising order.
var allScopes = [...]string{statement.ScopeExecution, statement.ScopeLogging, statement.ScopeTelemetry}

func scopeFlag() urfave.Flag {
	return &urfave.StringSliceFlag{Name: "scope", Usage: "to `WHAT`: execution, logging or telemetry; may be repeated", DefaultText: "execution"}
}

// scopes returns what --scope names, as statements want it.
func scopes(c *urfave.Context) ([]string, error) {
	given := c.StringSlice("scope")
	if len(given) == 0 {
		return []string{statement.ScopeExecution}, nil
	}
	for _, scope := range given {
		if !slices.Contains(allScopes[:], scope) {
			return nil, fault.Errorf(fault.Usage, "give execution, logging or telemetry", "--scope %.80q is nothing that can be consented to", scope)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(given))), nil
}

func consentGrantCommand() *urfave.Command {
	return &urfave.Command{
		Name: "grant", Usage: "consent to running the newest version of the contract",
		Description: "It takes the place of what the party granted before for the same scopes. An end is\n" +
			"held against the latest time that anything in the ledger names.",
		Flags: append(partyFlags(), specificationFlag(), scopeFlag(), versionFlag(),
			&urfave.DurationFlag{Name: "for", Usage: "for so `LONG`, such as 36h", DefaultText: "without end"},
			&urfave.Uint64Flag{Name: "runs", Usage: "for at most `N` runs", DefaultText: "any number"},
			jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			grant, err := grantOf(c)
			if err != nil {
				return err
			}
			return say(c, func(s *governance.State, _ string) (statement.Body, string, uint64, error) {
				k, _, err := newest(c, s)
				return grant, k.ID, k.Version, err
			})
		}, saysTakes()...),
	}
}

func grantOf(c *urfave.Context) (*statement.ConsentGrant, error) {
	names, err := scopes(c)
	if err != nil {
		return nil, err
	}
	grant := &statement.ConsentGrant{Scopes: names, Runs: c.Uint64("runs")}
	// Without a flag it is without end; a flag that says zero is a mistake.
	if c.IsSet("runs") && grant.Runs == 0 {
		return nil, fault.Errorf(fault.Usage, "leave --runs out for any number", "--runs 0 consents to nothing")
	}
	if !c.IsSet("for") {
		return grant, nil
	}
	if c.Duration("for") <= 0 {
		return nil, fault.Errorf(fault.Usage, "give a time such as 36h", "--for %v is in the past", c.Duration("for"))
	}
	end := statement.NewTime(time.Now().Add(c.Duration("for")))
	grant.Expires = &end
	return grant, nil
}

func consentWithdrawCommand() *urfave.Command {
	return &urfave.Command{
		Name: "withdraw", Usage: "take consent back; a running clean room ends at its next question",
		Description: "With --witness, the party's witness stops cosigning whatever the ledger says, so\n" +
			"that a ledger that hides the withdrawal ends the clean room too. Afterwards\n" +
			"`cloister witness resume DIR` lets it cosign again.",
		Flags: append(partyFlags(), specificationFlag(), scopeFlag(), reasonFlag(),
			&urfave.StringFlag{Name: "witness", Usage: "also withdraw the party's witness, in `DIR`"}, jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			names, err := scopes(c)
			if err != nil {
				return err
			}
			said := say(c, func(s *governance.State, _ string) (statement.Body, string, uint64, error) {
				k, _, err := newest(c, s)
				return &statement.ConsentWithdraw{Scopes: names, Reason: c.String("reason")}, k.ID, k.Version, err
			})
			if dir := c.String("witness"); dir != "" {
				return errors.Join(said, withdrawWitness(dir, c.String("reason")))
			}
			return said
		}, saysTakes()...),
	}
}
