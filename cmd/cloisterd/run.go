package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"time"

	"cloister/enclave/launch"
	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/internal/memory"
	"cloister/policy/cce"
	"cloister/policy/spec"

	urfave "github.com/urfave/cli/v2"
)

func runCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "run",
		Usage: "attest, pass the gate, mount, run the application, finish",
		Description: "--specification-digest and --ledger-key belong to the measured command line.\n" +
			"Everything else is the host's word, and is checked against what is measured.\n" +
			"The exit code is the application's where it ended by itself and everything is\n" +
			"durable and recorded; otherwise one of the table: 5 when consent was withdrawn,\n" +
			"7 when an output's store failed on the way and all is durable since, 8 when a\n" +
			"signal ended it or an output is not all durable.\n" +
			"Standard output has one line for each output, `output NAME REFERENCE`, or\n" +
			"`partial NAME REFERENCE` where the run did not come to its end or a store failed.\n" +
			"SIGTERM is passed to the application; what it wrote is then sealed and kept.",
		Flags: []urfave.Flag{
			&urfave.StringFlag{Name: "specification-digest", Usage: "the `DIGEST` of the specification to carry out", Required: true},
			&urfave.StringFlag{Name: "ledger-key", Usage: "the ledger's verifier `KEY`; it must be the specification's", Required: true},
			&urfave.StringFlag{Name: "specification", Usage: "the specification in its canonical form, `FILE` (default: the variable " + cce.SpecificationVariable + ", in base64)"},
			ledgerFlag(), platformFlag(), machinePolicyFlag(), policiesFlag(),
			&urfave.DurationFlag{Name: "grace", Usage: "how long the application has to end after SIGTERM, before it is killed", Value: 10 * time.Second},
			&urfave.DurationFlag{Name: "consent-interval", Usage: "how often consent is asked again while the application runs; withdrawn, it is ended within this, 10s for the answer, and --grace", Value: 30 * time.Second},
			&urfave.DurationFlag{Name: "keep-results", Usage: "how long results of jobs wait for who may have them, once the last job has ended; then the run ends", Value: 5 * time.Minute},
			memory.AllowSwapFlag(),
			statusFlag(), metricsFlag(), tracesFlag(), logLevelFlag(), logFormatFlag(),
		},
		Action: run,
	}
}

func run(c *urfave.Context) error {
	log, err := newLog(c)
	if err != nil {
		return err
	}
	if err := memory.Protect(log, c.Bool("allow-swap")); err != nil {
		return err
	}
	launch.Settle()
	if c.Duration("consent-interval") <= 0 {
		return fault.Errorf(fault.Usage, "give a duration such as 30s", "--consent-interval is %s", c.Duration("consent-interval"))
	}
	p, err := choosePlatform(c.String("platform"), c.String("machine-policy"))
	if err != nil {
		return err
	}
	if p.simulated {
		log = log.With("platform", "SIMULATED")
	}
	s, err := readSpecification(c)
	if err != nil {
		return err
	}
	if err := p.fits(s.Kind, c.String("platform")); err != nil {
		return err
	}
	replica, err := replicaOf(s)
	if err != nil {
		return err
	}
	if replica != nil {
		s, log = s.Replica(replica.Index), log.With("replica", replica.Index)
	}
	r := &room{
		log: log, out: c.App.Writer, spec: s, platform: p, replica: replica,
		grace: c.Duration("grace"), consentInterval: c.Duration("consent-interval"), keepResults: c.Duration("keep-results"), policies: policiesDir(c),
	}
	if r.share, err = shareOf(c, s); err != nil {
		return err
	}
	if err := r.observe(c); err != nil {
		return err
	}
	defer r.observed.close()
	exit, err := r.run(c.Context, c.String("ledger"), c.String("specification-digest"))
	if err == nil && exit != 0 {
		return cli.ExitStatus(exit)
	}
	return err
}

// readSpecification reads the canonical bytes that the host provides and
// refuses any whose digest is not the measured one, or that asks for more than
// this runtime does.
func readSpecification(c *urfave.Context) (spec.Specification, error) {
	raw, err := specificationBytes(c.String("specification"))
	if err != nil {
		return spec.Specification{}, err
	}
	if got, want := spec.DigestOf(raw), c.String("specification-digest"); got != want {
		return spec.Specification{}, fault.Errorf(fault.Refused, "give the specification that the container policy pins",
			"the specification has the digest %s, the measured command line pins %s", got, want)
	}
	s, err := spec.ParseCanonical(raw)
	if err != nil {
		return s, fmt.Errorf("reading the specification: %w", err)
	}
	if s.Governance.LedgerKey != c.String("ledger-key") {
		return s, fault.Errorf(fault.Refused, "give the ledger key that the specification names",
			"the specification names the ledger key %s, the command line %s", s.Governance.LedgerKey, c.String("ledger-key"))
	}
	return s, canMeet(s, modelOf(c))
}

// specificationBytes takes the specification from a file, or from the variable
// that the container policy admits.
func specificationBytes(file string) ([]byte, error) {
	const hint = "give the canonical form, as `cloister spec show --json` prints it"
	if file != "" {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, fault.Errorf(fault.NotFound, hint, "reading the specification: %w", err)
		}
		return raw, nil
	}
	raw, err := base64.StdEncoding.DecodeString(os.Getenv(cce.SpecificationVariable))
	if err != nil || len(raw) == 0 {
		return nil, fault.Errorf(fault.Usage, hint, "there is no specification: neither --specification nor base64 in %s", cce.SpecificationVariable)
	}
	return raw, nil
}
