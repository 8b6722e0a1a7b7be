package main

import (
	"fmt"
	"io"
	"time"

	"cloister/governance/remote"
	"cloister/governance/statement"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// ledgerCommand is "cloister ledger": what a party needs at a ledger beside the
// statements themselves.
func ledgerCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "ledger",
		Usage:       "have a ledger attested, know its key, read its page",
		Subcommands: []*urfave.Command{ledgerPolicyCommand(), ledgerKeyCommand(), ledgerTokenCommand()},
	}
}

func ledgerTokenCommand() *urfave.Command {
	return &urfave.Command{
		Name: "token", Usage: "print a read token, for the page that the ledger serves at URL/page/",
		Description: "Whoever has the token reads this ledger's log until it ends, and can say nothing\n" +
			"in it. Nobody can call it back: give it to the page alone.",
		Flags: auditFlags(jsonFlag(), &urfave.DurationFlag{Name: "for", Usage: "how long it holds, at most 1h", Value: 15 * time.Minute}),
		Action: action(func(c *urfave.Context, _ []string) error {
			life := c.Duration("for")
			if life <= 0 || life > remote.MaxTokenLife {
				return fault.Errorf(fault.Usage, "give a duration such as 15m", "--for is %s, want more than nothing and at most %s", life, remote.MaxTokenLife)
			}
			_, signer, err := readParty(c, c.String("party"))
			if err != nil {
				return err
			}
			defer signer.Destroy()
			return printToken(c, signer, time.Now().Add(life))
		}, "--ledger", "--party"),
	}
}

// printToken signs a token for the ledger key that is believed.
func printToken(c *urfave.Context, signer statement.Signer, until time.Time) error {
	log, err := remote.Find(c.String("ledger"), signer)
	if err != nil {
		return err
	}
	own, err := log.Key(c.Context)
	if err != nil {
		return err
	}
	key, _, err := believed(c, own)
	if err != nil {
		return err
	}
	token, err := remote.ReadToken(key, signer, until)
	if err != nil {
		return err
	}
	result := map[string]any{"token": token, "until": until.UTC()}
	return printResult(c, result, func(stdout, _ io.Writer) { fmt.Fprintln(stdout, token) })
}
