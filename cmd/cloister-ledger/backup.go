package main

import (
	"fmt"

	"cloister/governance/ledger"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

func backupCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "backup",
		Usage:     "copy the log in DIR, which may be served meanwhile, to the new directory TO",
		ArgsUsage: "DIR TO",
		Description: "The copy has the ledger's keys and is to be kept as such. Serving it restores it: it\n" +
			"goes on from where it was copied, and whoever saw more of the log refuses it as rolled back.",
		Action: func(c *urfave.Context) error {
			if c.NArg() != 2 {
				return fault.Errorf(fault.Usage, "cloister-ledger backup DIR TO", "backup takes two directories, %d are given", c.NArg())
			}
			at, err := ledger.Backup(c.Context, c.Args().Get(0), c.Args().Get(1))
			if err != nil {
				return fmt.Errorf("backing up %s: %w", c.Args().First(), err)
			}
			fmt.Fprintf(c.App.Writer, "%d entries\n", at.Size)
			return nil
		},
	}
}
