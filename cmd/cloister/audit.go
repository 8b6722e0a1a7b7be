package main

import (
	"encoding/json"
	"fmt"

	"cloister/governance"
	"cloister/internal/cli"

	urfave "github.com/urfave/cli/v2"
)

// auditCommand is "cloister audit": what was done, and whether the record holds.
func auditCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "audit",
		Usage:       "read and check the record of what was done",
		Subcommands: []*urfave.Command{auditListCommand(), auditVerifyCommand()},
	}
}

func auditListCommand() *urfave.Command {
	return &urfave.Command{
		Name: "list", Usage: "print every entry of the record, a line each",
		Flags: append(readerFlags(), specificationFlag(), jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			l, key, done, err := findLog(c)
			defer done()
			if err != nil {
				return err
			}
			out := json.NewEncoder(c.App.Writer)
			var failed error
			key, witnesses, err := trusted(c, key)
			if err != nil {
				return err
			}
			err = governance.NewCosignedView(key, witnesses).AdvanceToNewest(c.Context, l, func(seen governance.Seen) {
				if seen.Statement == nil || failed != nil {
					return
				}
				if c.Bool("json") {
					failed = out.Encode(map[string]any{"entry": seen.Index, "type": seen.Statement.Body.Type(), "time": seen.Statement.Time, "body": seen.Statement.Body})
					return
				}
				body, _ := json.Marshal(seen.Statement.Body)
				fmt.Fprintf(c.App.Writer, "%4d %s %-17s %s\n", seen.Index, seen.Statement.Time.UTC().Format("2006-01-02 15:04:05.000"), seen.Statement.Body.Type(), cli.Printable(string(body)))
			})
			if err == nil {
				err = failed
			}
			return err
		}, "--ledger"),
	}
}

func auditVerifyCommand() *urfave.Command {
	return &urfave.Command{
		Name: "verify", Usage: "check every signature, the chain of the log and the sequence of every run",
		Flags: append(readerFlags(), specificationFlag(), jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			l, key, done, err := findLog(c)
			defer done()
			if err != nil {
				return err
			}
			key, witnesses, err := trusted(c, key)
			if err != nil {
				return err
			}
			report, err := (&governance.Auditor{Key: key, Witnesses: witnesses}).Audit(c.Context, l)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				if err := json.NewEncoder(c.App.Writer).Encode(report); err != nil {
					return err
				}
				return report.Err()
			}
			for _, f := range report.Findings {
				mark := "ok  "
				if !f.OK {
					mark = "FAIL"
				}
				fmt.Fprintf(c.App.Writer, "%s %s %s %s\n", mark, f.Check, f.Run, cli.Printable(f.Detail))
			}
			fmt.Fprintf(c.App.Writer, "%d entries, %d runs\n", report.Entries, len(report.Runs))
			return report.Err()
		}, "--ledger"),
	}
}
