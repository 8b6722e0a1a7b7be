package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cloister/enclave"
	"cloister/enclave/launch"
	"cloister/enclave/proxy"
	"cloister/enclave/rego"
	"cloister/enclave/sidecar"
	"cloister/governance"
	"cloister/internal/fault"
	"cloister/policy/spec"
)

// room is one run of one clean room.
type room struct {
	log             *slog.Logger
	out             io.Writer
	spec            spec.Specification
	replica         *sidecar.Replica // nil where it is the only one
	platform        platform
	grace           time.Duration
	consentInterval time.Duration
	keepResults     time.Duration // how long results of jobs wait for who may have them
	policies        string        // the directory of the Rego files that the specification pins
	share           string        // where the application's container finds the mounts; "" where there is none

	observed observed
	monitor  *monitor
	says     *says

	record *governance.Run
	ingress
	job      *job
	jobs     *jobs         // nil where the contract has none
	followed atomic.Int64  // when a call last had the log read, in nanoseconds since 1970
	engine   *rego.Engine  // nil but for policies
	egress   *proxy.Egress // nil where nothing is let out
	mounts   *mounts
	door     *sidecar.Door // nil but for an application in a container of its own
	ended    chan ending
}

// ending is how the run came to its end.
type ending struct {
	started bool // the application did
	exit    int
	err     error // why it is not the end that the application chose; nil where it is
}

// crash says that a signal ended the application, as init and shells tell it: what
// it wrote is durable, and may be half of what it would have been.
func (e ending) crash() error {
	if e.err != nil || e.exit <= signalled {
		return nil
	}
	return fault.Errorf(fault.Incomplete, "", "signal %d ended the application", e.exit-signalled)
}

// signalled is the exit code for an application that a signal ended, less the
// signal's number: what shells use, and package launch.
const signalled = 128

// finishTime bounds what is done after the application: flushing outputs and
// the last records. Beyond it the outputs are reported incomplete.
const finishTime = 10 * time.Minute

func (r *room) run(ctx context.Context, ledgerURL, specification string) (exit int, err error) {
	if err := r.begin(ctx, ledgerURL, specification); err != nil {
		return 0, interrupted(ctx, err)
	}
	defer r.record.Destroy()
	defer r.closeEgress()
	if err := r.openEgress(ctx); err != nil {
		return 0, err
	}
	plan, keys, err := r.prepare()
	if err != nil {
		return 0, err
	}
	defer keys.Close()

	if err := r.openJobs(); err != nil {
		return 0, err
	}
	defer r.closeEndpoints(errEnded)
	if err := r.openEndpoints(ctx); err != nil {
		return 0, err
	}
	appCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer r.closeEndpointsWith(appCtx)()
	if err := r.awaitCall(appCtx, cancel); err != nil {
		return 0, interrupted(ctx, err)
	}
	r.ended = make(chan ending, 1)
	gate := &enclave.Gate{Governance: auditor{r.record, r.log, r.monitor}, Keys: keys, Mount: r.mount,
		Start: func(context.Context) error { return r.start(appCtx, specification) }}
	defer gate.Close()
	defer func() { r.closeDoor(err == nil) }()
	refused := gate.Open(ctx, plan)
	if refused != nil && !r.record.Begun() {
		return 0, interrupted(ctx, refused) // the log knows of no run that could end
	}
	return r.conclude(ctx, gate, r.untilEnd(appCtx, cancel, refused), refused)
}

// prepare makes ready what the gate needs, and asks nobody for anything yet.
func (r *room) prepare() (plan enclave.Plan, keys *keySource, err error) {
	if plan, err = r.plan(); err != nil {
		return plan, nil, err
	}
	available, err := availableMemory()
	if err != nil {
		return plan, nil, err
	}
	cloud, err := newCloud(r.spec)
	if err != nil {
		return plan, nil, err
	}
	if keys, err = cloud.keys(r.platform); err != nil {
		return plan, nil, err
	}
	r.mounts = &mounts{log: r.log, monitor: r.monitor, memory: newBudget(r.spec, available), spec: r.spec, contract: r.record.Contract(),
		credential: cloud.credential, head: r.knownHead, sign: r.record.SignReference, source: sidecar.MountSource(r.record.ID())}
	return plan, keys, nil
}

// conclude makes the outputs durable, takes mounts and keys away, and records what
// came of the run. The application has ended.
func (r *room) conclude(ctx context.Context, gate *enclave.Gate, end ending, refused error) (exit int, err error) {
	patience := finishTime
	if refused != nil && len(r.mounts.open) == 0 {
		patience = answerTime // there is nothing to make durable
	}
	finish, stop := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer stop()
	r.closeEndpoints(end.err)
	outputs, err := r.mounts.close(finish)
	// The keys go before anything waits for the ledger.
	gate.Close()
	end.err = errors.Join(end.err, err)
	return r.finish(finish, end, outputs)
}

// begin opens the ledger and makes a run, whose first statements the gate says.
func (r *room) begin(ctx context.Context, ledgerURL, specification string) error {
	log, err := openLedger(ledgerURL, r.spec, r.platform)
	if err != nil {
		return fmt.Errorf("opening the ledger: %w", err)
	}
	if r.record, err = r.beginRun(ctx, timedLog{log, r.monitor}, specification); err != nil {
		return err
	}
	k := r.record.Contract()
	r.monitor.set(func(s *status) { s.Run, s.Contract, s.Version = r.record.ID(), k.ID, k.Version })
	r.monitor.reached("run begins")
	r.log.Info("run begins", "run", r.record.ID(), "contract", k.ID, "version", k.Version)
	return nil
}

// interrupted says of an error before the application's start that a signal was
// its cause.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fault.Errorf(fault.Incomplete, "run it again", "a signal ended the run before its application started: %w", err)
}

// untilEnd waits for the end of an application that the gate has started.
func (r *room) untilEnd(ctx context.Context, cancel context.CancelCauseFunc, refused error) ending {
	if refused != nil {
		return ending{err: interrupted(ctx, refused)}
	}
	var watch sync.WaitGroup
	watch.Go(func() { r.watch(ctx, cancel) })
	watch.Go(func() { r.mounts.watch(ctx, cancel) })
	end := <-r.ended
	cause := context.Cause(ctx)
	cancel(nil)
	watch.Wait()
	switch {
	case end.err != nil || cause == nil:
	case errors.Is(cause, context.Canceled):
		end.err = fault.Errorf(fault.Incomplete, "run it again: outputs are kept as they were, marked partial", "the run was ended by a signal: %w", cause)
	default:
		end.err = cause
	}
	return end
}

// mount is the gate's: outputs are pinned in the record before anything is
// written to them.
func (r *room) mount(ctx context.Context, volumes []enclave.Opened) error {
	if err := r.mounts.mount(ctx, volumes); err != nil {
		return err
	}
	return r.recordHeads(ctx)
}

// start starts the application, here or in its container, and does not wait.
func (r *room) start(ctx context.Context, specification string) error {
	r.tellTelemetry(ctx)
	if r.share != "" {
		return r.startBeside(ctx, specification)
	}
	if r.jobs != nil {
		go r.work(ctx)
		return nil
	}
	go r.application(ctx)
	return nil
}

// application runs to its end, as often as the specification has it start again;
// what it wrote is not yet durable then.
func (r *room) application(ctx context.Context) {
	name := r.spec.Application.Name
	r.askLogging(ctx)
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		r.monitor.set(func(s *status) { s.Starts++ })
		r.monitor.reached("application starts")
		r.job.running()
		r.log.Info("application starts", "application", name)
		exit, started, err := r.launch(ctx)
		r.monitor.set(func(s *status) { s.Exit = &exit })
		r.monitor.reached("application ended")
		r.log.Info("application ended", "application", name, "exit", exit)
		if err != nil || !startsAgain(r.spec.Application.Restart, exit) || !sleep(ctx, wait) {
			r.ended <- ending{started: started, exit: exit, err: err}
			return
		}
		if err := r.startAgain(ctx, exit); err != nil {
			r.ended <- ending{exit: exit, err: err} // its end is recorded, another start is not
			return
		}
	}
}

// startAgain asks for consent as before the first start, and records the end
// before and the new start.
func (r *room) startAgain(ctx context.Context, exit int) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
	defer cancel()
	name := r.spec.Application.Name
	if err := r.record.RecordEnd(ctx, name, exit, nil); err != nil {
		return fmt.Errorf("recording an end of %s: %w", name, err)
	}
	if _, err := r.record.Record(ctx, governance.Event{Kind: governance.EventConsent, Name: "starting " + name + " again"},
		governance.Event{Kind: governance.EventExecution, Name: name}); err != nil {
		return fmt.Errorf("starting %s again: %w", name, err)
	}
	return nil
}

// launch runs it once, here or in its container.
func (r *room) launch(ctx context.Context) (exit int, started bool, err error) {
	app := r.launched()
	p, err := r.says.pipes()
	if err != nil {
		return 0, false, err
	}
	defer p.wait()
	app.Stdout, app.Stderr = p.stdout, p.stderr
	if r.door != nil {
		return r.launchBeside(ctx, app, p)
	}
	exit, err = launch.Run(ctx, app)
	return exit, true, err
}

// launched is what the specification has run.
func (r *room) launched() launch.Application {
	a := r.spec.Application
	app := launch.Application{Command: a.Command, Environment: a.Environment, WorkingDir: a.WorkingDir, Mounts: r.mounts.shown(),
		Network: r.network(), Grace: r.grace, Release: r.mounts.abort, Log: r.log}
	app.UID, app.GID = applicationUser(r.spec)
	if a.Resources != nil {
		app.Limits = launch.Limits(*a.Resources)
	}
	r.letIn(&app)
	r.letOut(&app)
	tell(&app, r.replica.Environment()...)
	return app
}

// tell gives an application more variables, each NAME=VALUE.
func tell(app *launch.Application, variables ...string) {
	env := map[string]string{}
	maps.Copy(env, app.Environment)
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	app.Environment = env
}

// What is waited before an application starts again, the double each time: as
// container engines do, so that one that cannot run does not keep the machine
// busy.
const (
	firstWait   = 100 * time.Millisecond
	longestWait = time.Minute
)

func startsAgain(restart string, exit int) bool {
	return restart == spec.RestartAlways || restart == spec.RestartOnFailure && exit != 0
}

// sleep reports whether the run is still to go on after a while.
func sleep(ctx context.Context, wait time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait):
		return true
	}
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
