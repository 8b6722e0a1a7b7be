package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"cloister/enclave"
	"cloister/enclave/launch"
	"cloister/governance"
	"cloister/governance/ledger"
	"cloister/governance/statement"
	"cloister/internal/cli"
	"cloister/internal/fault"
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
			"The exit code is the application's, unless the run did not get that far.",
		Flags: []urfave.Flag{
			&urfave.StringFlag{Name: "specification-digest", Usage: "the `DIGEST` of the specification to carry out", Required: true},
			&urfave.StringFlag{Name: "ledger-key", Usage: "the ledger's verifier `KEY`; it must be the specification's", Required: true},
			&urfave.StringFlag{Name: "specification", Usage: "the specification in its canonical form, `FILE` (default: the variable " + cce.SpecificationVariable + ", in base64)"},
			&urfave.StringFlag{Name: "ledger", Usage: "the ledger's `DIR`", EnvVars: []string{"CLOISTER_LEDGER"}, Required: true},
			&urfave.StringFlag{Name: "platform", Usage: "`hardware`" + platformUsage, Value: "hardware"},
			&urfave.DurationFlag{Name: "grace", Usage: "how long the application has to end after SIGTERM", Value: 10 * time.Second},
			&urfave.DurationFlag{Name: "consent-interval", Usage: "how often consent is asked again while the application runs", Value: 30 * time.Second},
		},
		Action: run,
	}
}

func run(c *urfave.Context) error {
	if err := protectMemory(); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(c.App.ErrWriter, nil))
	p, err := choosePlatform(c.String("platform"))
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
	if (s.Kind == spec.Simulated) != p.simulated {
		return fault.Errorf(fault.Refused, "run it on the platform that the parties agreed on",
			"the specification is of kind %s, this platform is %s", s.Kind, c.String("platform"))
	}
	r := &room{
		log: log, out: c.App.Writer, spec: s, platform: p,
		grace: c.Duration("grace"), consentInterval: c.Duration("consent-interval"),
	}
	exit, err := r.run(c.Context, c.String("ledger"), c.String("specification-digest"))
	if err == nil && exit != 0 {
		return cli.ExitStatus(exit)
	}
	return err
}

// readSpecification reads the canonical bytes that the host provides and
// refuses any whose digest is not the measured one.
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
	return s, nil
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

// room is one run of one clean room.
type room struct {
	log             *slog.Logger
	out             io.Writer
	spec            spec.Specification
	platform        platform
	grace           time.Duration
	consentInterval time.Duration

	record *governance.Run
	mounts *mounts
	ended  chan ending
	cancel context.CancelCauseFunc // ends the application
}

// ending is how the application ended.
type ending struct {
	exit int
	err  error
}

// finishTime bounds what is done after the application: flushing outputs and
// the last records. Beyond it the outputs are reported incomplete.
const finishTime = 10 * time.Minute

func (r *room) run(ctx context.Context, ledgerDir, specification string) (exit int, err error) {
	log, err := ledger.Open(ctx, ledgerDir)
	if err != nil {
		return 0, fmt.Errorf("opening the ledger: %w", err)
	}
	if r.record, err = r.beginRun(ctx, log, specification); err != nil {
		return 0, err
	}
	defer r.record.Destroy()
	r.log.Info("run begins", "run", r.record.ID(), "contract", r.record.Contract().ID, "version", r.record.Contract().Version)

	plan, err := r.plan()
	if err != nil {
		return 0, err
	}
	cloud := newCloud(r.spec, r.platform)
	keys, err := cloud.keys(r.platform)
	if err != nil {
		return 0, err
	}
	defer keys.Close()
	r.mounts = newMounts(r.log, r.spec, r.record.Contract(), cloud.credential)

	appCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.cancel, r.ended = cancel, make(chan ending, 1)
	gate := &enclave.Gate{Governance: auditor{r.record, r.log}, Keys: keys, Mount: r.mounts.mount,
		Start: func(context.Context) error { go r.application(appCtx); return nil }}
	defer gate.Close()
	if err := gate.Open(ctx, plan); err != nil {
		return 0, errors.Join(err, r.mounts.abandon())
	}
	go r.watchConsent(appCtx)
	end := <-r.ended
	cause := context.Cause(appCtx)
	cancel(nil)

	finish, stop := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer stop()
	return r.finish(finish, end, cause)
}

// application runs to its end; what it wrote is not yet durable then.
func (r *room) application(ctx context.Context) {
	a := r.spec.Application
	app := launch.Application{Command: a.Command, Environment: a.Environment, WorkingDir: a.WorkingDir,
		Grace: r.grace, Stdout: os.Stdout, Stderr: os.Stderr}
	app.UID, app.GID = applicationUser(r.spec)
	r.log.Info("application starts", "application", a.Name)
	exit, err := launch.Run(ctx, app)
	r.log.Info("application ended", "application", a.Name, "exit", exit)
	r.ended <- ending{exit, err}
}

// applicationUser is who the application runs as: the specification's user
// where the runtime may choose, and otherwise whoever the runtime is.
func applicationUser(s spec.Specification) (uid, gid uint32) {
	switch {
	case os.Getuid() != 0:
		return uint32(os.Getuid()), uint32(os.Getgid())
	case s.Application.User != nil:
		return s.Application.User.UID, s.Application.User.GID
	default:
		return nobody, nobody
	}
}

// nobody is who an application runs as that the specification gives no user.
const nobody = 65534

// watchConsent asks again while the application runs, and ends it when the
// answer is not yes any more.
func (r *room) watchConsent(ctx context.Context) {
	tick := time.NewTicker(r.consentInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := r.record.CheckConsent(ctx, enclave.ScopeExecution, "going on with "+r.spec.Application.Name); err != nil && ctx.Err() == nil {
			r.log.Error("consent is gone: ending the application", "error", err)
			r.cancel(fmt.Errorf("the application was ended: %w", err))
			return
		}
	}
}

// finish is the end in its order: no process of the application is left by
// now; outputs are flushed and unmounted, then what came of it is recorded. An
// output that is not all durable is never reported complete.
func (r *room) finish(ctx context.Context, end ending, cause error) (exit int, err error) {
	outputs, closeErr := r.mounts.close(ctx)
	stopped := end.err
	if stopped == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		stopped = cause
	}
	err = errors.Join(stopped, closeErr)
	if recErr := r.record.RecordEnd(ctx, r.spec.Application.Name, end.exit, outputs); recErr != nil {
		return 0, errors.Join(err, recErr)
	}
	complete := err == nil && cause == nil
	if recErr := r.record.Complete(ctx, end.exit, complete, detail(err, cause), outputs); recErr != nil {
		return 0, errors.Join(err, recErr)
	}
	for _, o := range outputs {
		fmt.Fprintf(r.out, "output %s %s\n", o.Name, o.Reference)
	}
	r.log.Info("run ends", "complete", complete, "exit", end.exit)
	return end.exit, err
}

func detail(err, cause error) string {
	switch {
	case err != nil:
		return string(statement.Text(err.Error()))
	case cause != nil:
		return "ended by a signal"
	default:
		return ""
	}
}

// auditor is the run's record as the gate knows it, with a line in the log for
// each step.
type auditor struct {
	run *governance.Run
	log *slog.Logger
}

func (a auditor) CheckConsent(ctx context.Context, scope, what string) error {
	a.log.Info("consent is asked", "for", what)
	return a.run.CheckConsent(ctx, scope, what)
}

func (a auditor) Record(ctx context.Context, e enclave.Event) error {
	a.log.Info("audit", "what", e.Kind, "name", e.Name, "volume", e.Volume)
	return a.run.Record(ctx, governance.Event(e))
}
