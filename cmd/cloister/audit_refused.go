package main

import (
	"context"
	"encoding/json"
	"fmt"

	"cloister/governance"
	"cloister/internal/cli"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

func auditRefusedCommand() *urfave.Command {
	return &urfave.Command{
		Name: "refused", Usage: "print what parties and runs signed and the ledger did not append, a line each",
		Description: "The ledger keeps it where the specification says so (refused: kept). Who signed a statement\n" +
			"is proven by it; that it was refused, and why, is the ledger's word.\n" +
			"What endpoints refused their clients is in the record: audit list --kind ingress.",
		Flags: append(readerFlags(), jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			log, _, done, err := findLog(c)
			defer done()
			if err != nil {
				return err
			}
			keeper, ok := log.(interface {
				Refused(context.Context) ([]governance.Refused, error)
			})
			if !ok {
				return fault.Errorf(fault.Usage, "give the URL of a server", "a ledger's directory is its operator's to show")
			}
			list, err := keeper.Refused(c.Context)
			if err != nil {
				return err
			}
			out := json.NewEncoder(c.App.Writer)
			for _, r := range list {
				if c.Bool("json") {
					err = out.Encode(r)
				} else {
					_, err = fmt.Fprintf(c.App.Writer, "%s %-17s %s\n", r.Time.Format("2006-01-02 15:04:05.000"), r.Reason, cli.Printable(r.Detail))
				}
				if err != nil {
					return err
				}
			}
			return nil
		}, "--ledger"),
	}
}
