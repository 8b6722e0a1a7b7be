package main

import (
	"fmt"
	"io"
	"os"

	"cloister/enclave/evidence"
	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/cli"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

func auditVerifyCommand() *urfave.Command {
	return &urfave.Command{
		Name: "verify", Usage: "check every signature, the chain of the log and the sequence of every run",
		Description: "The head that was seen is remembered in --heads, and the next verify demands that\n" +
			"the log has only grown. Exit code 5 where anything does not hold.",
		Flags: auditFlags(jsonFlag(),
			&urfave.StringFlag{Name: "export", Usage: "check this `FILE` of audit export, in place of a ledger"},
			&urfave.StringFlag{Name: "platform", Usage: "judge the runs' evidence, of this platform: `amd`, or simulated:GUESTDIR"},
			&urfave.Uint64Flag{Name: "min-svn", Usage: "the lowest version `N` of the utility VM that is good enough", Value: minimumUVMSVN}),
		Action: action(runAuditVerify),
	}
}

func runAuditVerify(c *urfave.Context, _ []string) error {
	if (c.String("ledger") == "") == (c.String("export") == "") {
		return fault.Errorf(fault.Usage, "give one of them", "audit verify takes --ledger or --export")
	}
	judge, err := evidenceJudge(c)
	if err != nil {
		return err
	}
	report, heads, err := auditOf(c, governance.Auditor{Evidence: judge})
	if err != nil {
		return err
	}
	if err := printResult(c, report, func(stdout, _ io.Writer) { printAudit(stdout, report) }); err != nil {
		return err
	}
	if err := report.Err(); err != nil {
		return err
	}
	return heads.remember(report.Head)
}

// auditOf audits what the flags name.
func auditOf(c *urfave.Context, a governance.Auditor) (report governance.Report, h head, err error) {
	if c.String("export") != "" {
		return auditExported(c, a)
	}
	log, key, witnesses, done, err := auditLog(c)
	defer done()
	if err != nil {
		return report, h, err
	}
	a.Key, a.Witnesses = key, witnesses
	if h, a.Remembered, err = recall(c, key); err != nil {
		return report, h, err
	}
	report, err = a.Audit(c.Context, log)
	return report, h, err
}

func auditExported(c *urfave.Context, a governance.Auditor) (report governance.Report, h head, err error) {
	f, err := os.Open(c.String("export"))
	if err != nil {
		return report, h, fault.Errorf(fault.NotFound, "", "--export: %w", err)
	}
	defer f.Close()
	x, err := governance.OpenExport(f)
	if err != nil {
		return report, h, err
	}
	if a.Key, a.Witnesses, err = believed(c, x.Head.Ledger); err != nil {
		return report, h, err
	}
	if h, a.Remembered, err = recall(c, a.Key); err != nil {
		return report, h, err
	}
	if x.Head.Run != "" {
		report, err = a.AuditRun(x)
		return report, "", err // it did not see all up to its head, so that is not remembered
	}
	report, err = a.Audit(c.Context, x)
	return report, h, err
}

func printAudit(w io.Writer, report governance.Report) {
	for _, f := range report.Findings {
		mark := "ok  "
		switch {
		case f.Skipped:
			mark = "skip"
		case !f.OK:
			mark = "FAIL"
		}
		fmt.Fprintf(w, "%s %s %s %s\n", mark, f.Check, f.Run, cli.Printable(f.Detail))
	}
	fmt.Fprintf(w, "%d entries, %d runs\n", report.Entries, len(report.Runs))
}

// evidenceJudge judges runs' evidence, where it is to be judged.
func evidenceJudge(c *urfave.Context) (func(*statement.RunBegin, statement.Contract) error, error) {
	if c.String("platform") == "" {
		return nil, nil
	}
	judge, err := evidence.Named(c.String("platform"), c.Uint64("min-svn"))
	return judge.Run, err
}
