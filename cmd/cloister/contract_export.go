package main

import (
	"fmt"
	"io"

	"cloister/governance"
	"cloister/internal/fault"
	"cloister/policy/spec"

	urfave "github.com/urfave/cli/v2"
)

func contractExportCommand() *urfave.Command {
	return &urfave.Command{
		Name: "export", Usage: "write the accepted specification, for the solution provider to translate",
		Description: "It is in its canonical form, which `cloister policy generate` and the runtime take.\n\n" +
			"JSON: file, specification, version.",
		Flags: append(readerFlags(), specificationFlag(), versionFlag(), text("out", "the new `FILE` to write"), jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			_, view, done, err := openView(c)
			defer done()
			if err != nil {
				return err
			}
			canonical, err := accepted(c, view.State())
			if err != nil {
				return err
			}
			if err := createFile(c.String("out"), canonical, 0o644); err != nil {
				return err
			}
			k, _ := view.State().Contract()
			return printResult(c, map[string]any{"file": c.String("out"), "specification": k.Specification, "version": k.Version}, func(stdout, _ io.Writer) {
				fmt.Fprintf(stdout, "%s of contract %s version %d\n", k.Specification, k.ID, k.Version)
			})
		}, "--ledger", "--out"),
	}
}

// accepted returns the specification that all parties approved.
func accepted(c *urfave.Context, s *governance.State) ([]byte, error) {
	k, _, err := newest(c, s)
	if err != nil {
		return nil, err
	}
	if s.Status() != governance.Accepted {
		return nil, fault.Errorf(fault.Conflict, "see cloister contract status", "contract %s version %d is %s, not accepted", k.ID, k.Version, s.Status())
	}
	if _, err := proposed(s); err != nil {
		return nil, err
	}
	return s.Specification(), nil
}

// proposed reads the newest version's specification from the ledger. The fold
// has compared its digest; that it is sound is looked at here.
func proposed(s *governance.State) (spec.Specification, error) {
	canonical := s.Specification()
	if canonical == nil {
		return spec.Specification{}, fault.Errorf(fault.NotFound, "ask the proposer for the file, and compare cloister spec digest", "the ledger does not hold the specification itself")
	}
	return spec.ParseCanonical(canonical)
}
