package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/cli"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// auditCommand is "cloister audit": what was done, and whether the record holds.
func auditCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "audit",
		Usage:       "read and check the record of what was done",
		Subcommands: []*urfave.Command{auditListCommand(), auditVerifyCommand(), auditExportCommand(), auditPageCommand(), auditRefusedCommand()},
	}
}

// auditFlags name a log that is read, who reads, and whose word about it counts.
func auditFlags(more ...urfave.Flag) []urfave.Flag {
	return append(append(readerFlags(), specificationFlag(),
		&urfave.StringFlag{Name: "ledger-key", Usage: "the ledger's verifier `KEY`, in place of a specification; without either the ledger's own word is taken"}), more...)
}

// believed is trusted where --ledger-key may stand in place of the specification.
func believed(c *urfave.Context, own string) (key string, w governance.Witnesses, err error) {
	if given := c.String("ledger-key"); given != "" {
		own = given
	}
	if c.IsSet("specification") && c.IsSet("ledger-key") {
		return "", w, fault.Errorf(fault.Usage, "give one of them", "the ledger's key is in --specification, and in --ledger-key")
	}
	return trusted(c, own)
}

// auditLog is findLog with the key and the witnesses that are believed.
func auditLog(c *urfave.Context) (log governance.Source, key string, w governance.Witnesses, done func(), err error) {
	if log, key, done, err = findLog(c); err != nil {
		return nil, "", w, done, err
	}
	key, w, err = believed(c, key)
	return log, key, w, done, err
}

// auditFilter is what of the record is shown.
type auditFilter struct {
	run, kind, by string
	since, until  time.Time
}

func filterFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: "run", Usage: "only of the run `ID`"},
		&urfave.StringFlag{Name: "kind", Usage: "only statements of the `TYPE`, as in record-access"},
		&urfave.StringFlag{Name: "by", Usage: "only by the party `NAME`; enclave is every run"},
		&urfave.StringFlag{Name: "since", Usage: "not before `TIME` (RFC 3339), by the signers' clocks"},
		&urfave.StringFlag{Name: "until", Usage: "before `TIME` (RFC 3339), by the signers' clocks"},
	}
}

func filterOf(c *urfave.Context) (f auditFilter, err error) {
	f = auditFilter{run: c.String("run"), kind: c.String("kind"), by: c.String("by")}
	for flag, t := range map[string]*time.Time{"since": &f.since, "until": &f.until} {
		if text := c.String(flag); text != "" && err == nil {
			if *t, err = time.Parse(time.RFC3339, text); err != nil {
				err = fault.Errorf(fault.Usage, "write it as 2026-01-02T15:04:05Z", "--%s %.40q is not a time", flag, text)
			}
		}
	}
	return f, err
}

func (f auditFilter) shows(e governance.Line) bool {
	return (f.run == "" || f.run == e.Run) && (f.kind == "" || f.kind == string(e.Type)) && (f.by == "" || f.by == e.By) &&
		!e.Time.Before(f.since) && (f.until.IsZero() || e.Time.Before(f.until))
}

func auditListCommand() *urfave.Command {
	return &urfave.Command{
		Name: "list", Usage: "print the entries of the record in words, a line each",
		Flags: append(auditFlags(jsonFlag()), filterFlags()...),
		Action: action(func(c *urfave.Context, _ []string) error {
			return eachLine(c, func(e governance.Line, s *statement.Statement) error {
				return printLine(c.App.Writer, c.Bool("json"), e, s, e.By)
			})
		}, "--ledger"),
	}
}

// printLine prints an entry in words, who being the speaker, or as an object.
func printLine(w io.Writer, asJSON bool, e governance.Line, s *statement.Statement, who string) error {
	if asJSON {
		return json.NewEncoder(w).Encode(map[string]any{"entry": e.Entry, "type": e.Type, "time": e.Time, "by": e.By, "words": e.Words, "body": s.Body})
	}
	_, err := fmt.Fprintf(w, "%4d %s %-17s %s: %s\n", e.Entry, e.Time.Format("2006-01-02 15:04:05.000"), e.Type, cli.Printable(who), cli.Printable(e.Words))
	return err
}

// eachLine hands the entries that the filter shows to print, with the log
// verified on the way.
func eachLine(c *urfave.Context, print func(governance.Line, *statement.Statement) error) error {
	filter, err := filterOf(c)
	if err != nil {
		return err
	}
	log, view, done, err := watchedLog(c)
	defer done()
	if err != nil {
		return err
	}
	var failed error
	err = view.follow(c.Context, log, func(seen governance.Seen) {
		if seen.Statement == nil || failed != nil {
			return
		}
		if e := governance.LineOf(seen, view.State()); filter.shows(e) {
			failed = print(e, seen.Statement)
		}
	})
	if err == nil {
		err = failed
	}
	return err
}

func auditExportCommand() *urfave.Command {
	return &urfave.Command{
		Name: "export", Usage: "write the record into a file that audit verify checks without the ledger",
		Description: "JSON is one object a line and holds all that verify needs; with --run, only that\n" +
			"run's entries, each with a proof. CSV is for spreadsheets and proves nothing.",
		Flags: append(auditFlags(
			&urfave.StringFlag{Name: "format", Usage: "json or csv", Value: "json"},
			&urfave.StringFlag{Name: "out", Usage: "a new `FILE`; without it, standard output"}), filterFlags()...),
		Action: action(func(c *urfave.Context, _ []string) error {
			write, err := exporter(c)
			if err != nil || c.String("out") == "" {
				return orWrite(err, write, c.App.Writer)
			}
			f, err := os.OpenFile(c.String("out"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return fault.Errorf(fault.Conflict, "name a new file", "--out: %w", err)
			}
			if err := write(f); err != nil {
				f.Close()
				os.Remove(f.Name())
				return err
			}
			return finish(f)
		}, "--ledger"),
	}
}

func orWrite(err error, write func(io.Writer) error, w io.Writer) error {
	if err != nil {
		return err
	}
	return write(w)
}

func finish(f *os.File) error {
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func exporter(c *urfave.Context) (func(io.Writer) error, error) {
	switch format := c.String("format"); format {
	case "csv":
		return func(w io.Writer) error {
			table := governance.NewTable(w)
			if err := eachLine(c, func(e governance.Line, _ *statement.Statement) error { return table.Add(e) }); err != nil {
				return err
			}
			return table.Flush()
		}, nil
	case "json":
		for _, flag := range []string{"kind", "by", "since", "until"} {
			if c.IsSet(flag) {
				return nil, fault.Errorf(fault.Usage, "leave --"+flag+" out, or take --format csv", "a part of the record, but for one run, proves nothing")
			}
		}
		return func(w io.Writer) error { return exportProven(c, w) }, nil
	default:
		return nil, fault.Errorf(fault.Usage, "--format json, or csv", "there is no format %q", format)
	}
}

func exportProven(c *urfave.Context, w io.Writer) error {
	log, view, done, err := watchedLog(c)
	defer done()
	if err != nil {
		return err
	}
	return governance.Export(c.Context, w, log, view.View, c.String("run"))
}
