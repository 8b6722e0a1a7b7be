package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cloister/enclave/snp"
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
			&urfave.StringFlag{Name: "heads", Usage: "where seen heads are remembered, `DIR`; by default with the user's configuration"},
			&urfave.StringFlag{Name: "platform", Usage: "judge the runs' evidence, of this platform: `amd`, or simulated:GUESTDIR"},
			&urfave.Uint64Flag{Name: "min-svn", Usage: "the lowest version `N` of the utility VM that is good enough", Value: minimumUVMSVN}),
		Action: action(runAuditVerify),
	}
}

func runAuditVerify(c *urfave.Context, _ []string) error {
	if (c.String("ledger") == "") == (c.String("export") == "") {
		return fault.Errorf(fault.Usage, "give one of them", "audit verify takes --ledger or --export")
	}
	evidence, err := evidenceJudge(c)
	if err != nil {
		return err
	}
	report, heads, err := auditOf(c, governance.Auditor{Evidence: evidence})
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

// evidenceJudge judges a run's evidence: that it is of the platform, of a
// container under the contract's policy, and binds what the run began with.
func evidenceJudge(c *urfave.Context) (func(*statement.RunBegin, statement.Contract) error, error) {
	if c.String("platform") == "" {
		return nil, nil
	}
	anchors, err := anchorsOf(c.String("platform"))
	if err != nil {
		return nil, err
	}
	return func(begin *statement.RunBegin, contract statement.Contract) error {
		about, err := identityOf(begin)
		if err != nil {
			return err
		}
		host, err := hex.DecodeString(strings.TrimPrefix(contract.ContainerPolicy, "sha256:"))
		if err != nil {
			return err
		}
		e := snp.Evidence{Report: begin.Evidence.Report}
		e.UVM = begin.Evidence.Endorsement
		if e.HostCerts, err = snp.ParseHostCerts(begin.Evidence.Certificates); err != nil {
			return err
		}
		_, err = snp.Verify(&e, snp.Expectations{Anchors: anchors, HostData: host, ReportData: about, SMT: snp.SMTAllowed, MinTCB: snp.BaseFloors(), MinUVMSVN: c.Uint64("min-svn")})
		return err
	}, nil
}

// identityOf is the REPORT_DATA that a run's evidence must have.
func identityOf(begin *statement.RunBegin) ([]byte, error) {
	i := snp.Identity{AuditKey: begin.AuditKey, TLSKey: begin.TLSKey}
	if _, err := hex.Decode(i.RunID[:], []byte(begin.Run.ID)); err != nil {
		return nil, err
	}
	if _, err := hex.Decode(i.ContractDigest[:], []byte(strings.TrimPrefix(begin.ContractDigest, "sha256:"))); err != nil {
		return nil, err
	}
	data, err := i.ReportData()
	return data[:], err
}

// head is the file that remembers a ledger's head; "" for none.
type head string

// recall returns the head that was seen last of the ledger with this key, nil
// the first time. A head that cannot be read is an error: it may be the one that
// would have shown a rollback.
func recall(c *urfave.Context, key string) (head, []byte, error) {
	dir := c.String("heads")
	if dir == "" {
		config, err := os.UserConfigDir()
		if err != nil {
			return "", nil, fault.Errorf(fault.Usage, "name a directory with --heads", "remembering the ledger's head: %w", err)
		}
		dir = filepath.Join(config, "cloister", "heads")
	}
	path := filepath.Join(dir, strings.TrimPrefix(statement.Digest([]byte(key)), "sha256:"))
	signed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return head(path), nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("reading the remembered head: %w", err)
	}
	return head(path), signed, nil
}

func (h head) remember(signed []byte) error {
	if h == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(string(h)), 0o700); err != nil {
		return fault.Errorf(fault.Usage, "name a directory with --heads", "remembering the ledger's head: %w", err)
	}
	return replaceFile(string(h), signed)
}
