package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"cloister/enclave/launch"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/policy/spec"
)

// The files of a job, in its directory.
const (
	parametersFile = "parameters" // what the caller sent, for the application to read
	resultFile     = "result"     // what the application leaves for the caller
	progressFile   = "progress"   // percent, while it runs
)

// exchangeRoom is what fits in a job's directory beside its parameters and result, in
// bytes: what programs write beside a file before they rename it.
const exchangeRoom = 1 << 20

// notStarted is the exit code that the record has of a job that could not be started.
const notStarted = 255

// openJobs makes the run's table, where the contract has jobs. An application that
// starts by itself is the first of them, under the run's id, which no caller may take.
func (r *room) openJobs() error {
	r.job, r.jobs = newJob(), newJobs(r.spec.Jobs)
	if r.jobs == nil || r.spec.Application.Start == spec.StartManual {
		return nil
	}
	w, _, err := r.jobs.add(r.record.ID(), "", nil)
	if err == nil {
		close(w.answered)
	}
	return err
}

// refusalTime is how long the caller of a job that is refused for want of consent has
// to take the answer, before the run ends.
const refusalTime = time.Second

// work is application where the contract has jobs: it has them begin until none is to
// come, and ends the run. ctx ends all.
func (r *room) work(ctx context.Context) {
	r.askLogging(ctx)
	r.job.running()
	r.jobs.open(func(w *work) { r.workOn(ctx, w) })
	r.log.Info("jobs are taken", "at most", r.jobs.agreed.Most(), "at a time", r.jobs.agreed.Together())
	r.jobs.rest(ctx, r.keepResults)
	r.jobs.close()
	r.jobs.all.Wait()
	r.ended <- ending{started: true, exit: r.jobs.exit, err: r.jobs.failed}
}

// workOn has a job begin and sees it to its end. Where consent is gone, or the record
// is, so is the run.
func (r *room) workOn(ctx context.Context, w *work) {
	run := ctx
	ctx, stop := context.WithCancelCause(run)
	defer stop(nil)
	r.jobs.set(w, func() { w.stop = stop })
	if err := r.beginJob(ctx, w); err != nil {
		r.jobs.set(w, func() { w.state, w.why, w.refused = workRefused, err.Error(), err })
		if fault.KindOf(err) == fault.Refused {
			select { // the endpoints close when the run ends
			case <-w.answered:
			case <-time.After(refusalTime):
			}
			r.job.end(fmt.Errorf("the application was ended: %w", err))
		}
		return
	}
	r.monitor.set(func(s *status) { s.Starts++ })
	r.monitor.reached("job starts")
	r.log.Info("job starts", "job", w.id, "party", w.party)
	exit, err := r.launchJob(run, ctx, w)
	r.monitor.set(func(s *status) { s.Exit = &exit })
	r.monitor.reached("job ended")
	r.log.Info("job ended", "job", w.id, "exit", exit)
	if err := r.endJob(ctx, w, exit, err); err != nil {
		r.job.end(fmt.Errorf("the application was ended: recording the end of job %s: %w", w.id, err))
	}
}

// beginJob asks for consent, where each job is to, and records that the job starts.
func (r *room) beginJob(ctx context.Context, w *work) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
	defer cancel()
	job := statement.Job{ID: w.id, Party: w.party}
	if w.size > 0 {
		job.Parameters = &statement.Handed{Digest: statement.HandedDigest(w.salt, w.parameters), Size: uint64(w.size)}
	}
	err := r.record.StartJob(ctx, job, r.jobs.agreed.Consent == spec.ConsentJob)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("starting job %s: %w", w.id, err)
	r.log.Warn("a job is refused", "job", w.id, "error", err)
	if fault.KindOf(err) == fault.Refused {
		if said := r.record.RecordRefusal(ctx, "starting job "+w.id, err); said != nil {
			r.log.Error("a refusal is not recorded", "error", said)
		}
	}
	return err
}

// launchJob is one launch of the application, with a directory of its own.
func (r *room) launchJob(run, ctx context.Context, w *work) (exit int, err error) {
	app := r.launched()
	tell(&app, "CLOISTER_JOB="+w.id, "CLOISTER_JOB_DIR="+launch.ExchangeDir)
	app.Exchange = &launch.Exchange{Files: map[string][]byte{parametersFile: w.parameters}, Size: int64(r.jobs.agreed.MaxResult) + int64(w.size) + exchangeRoom,
		Opened: func(dir *launch.Exchanged) {
			r.jobs.set(w, func() { w.dir, w.state, w.parameters = dir, workRunning, nil })
		}}
	// What holds a killed process of one job up is not the others' to lose, before the
	// run ends.
	releasing := func() bool { return true }
	abort := app.Release
	app.Release = func() { releasing = context.AfterFunc(run, abort) }
	defer func() { releasing() }()
	var inside *launch.Network
	others := app.Network
	app.Network = func(n *launch.Network) error {
		inside = n
		if others == nil {
			return nil
		}
		return others(n)
	}
	defer func() { r.inside.CompareAndSwap(inside, nil) }()
	p, err := r.says.pipes()
	if err != nil {
		return 0, err
	}
	defer p.wait()
	app.Stdout, app.Stderr = p.stdout, p.stderr
	return launch.Run(ctx, app)
}

// endJob takes the result and records what came of the job; only then anybody can have
// it. failed is why it could not be started.
func (r *room) endJob(ctx context.Context, w *work, exit int, failed error) error {
	state, result, why := workEnded, []byte(nil), failed
	switch cause := context.Cause(ctx); {
	case failed != nil:
		exit = notStarted
	case cause != nil:
		state, why = workCancelled, cause
	default:
		result, why = r.takeResult(w)
	}
	said := statement.Job{ID: w.id, Phase: statement.PhaseEnd, Exit: &exit}
	if result != nil {
		said.Result = &statement.Handed{Digest: statement.HandedDigest(w.resultSalt, result), Size: uint64(len(result))}
	}
	if why != nil {
		said.Detail = statement.Text(why.Error())
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
	defer cancel()
	err := r.record.RecordJob(ctx, said)
	r.jobs.set(w, func() {
		if w.dir != nil {
			w.readProgress()
			w.dir.Close()
		}
		w.dir, w.state, w.exit, w.why = nil, state, &exit, said.Detail
		if err == nil && result != nil {
			w.result, w.handed = result, said.Result
		}
		r.jobs.exit = worse(r.jobs.exit, exit)
		r.jobs.failed = errors.Join(r.jobs.failed, failed)
	})
	if failed != nil {
		r.job.end(failed)
	}
	return err
}

// takeResult is the result, where there is one that is to be handed over; why not,
// where the application would have expected that it is.
func (r *room) takeResult(w *work) (result []byte, why error) {
	most := r.jobs.agreed.MaxResult
	if most == 0 || w.dir == nil {
		return nil, nil
	}
	result, err := w.dir.Read(resultFile, int64(most))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case errors.Is(err, launch.ErrTooLarge):
		return nil, fault.Errorf(fault.Refused, "", "the result of job %s has more than the %d bytes that the contract lets out: have the application write it to a datasink", w.id, most)
	case err != nil:
		return nil, fault.Errorf(fault.Refused, "", "the result of job %s is not handed over: %v", w.id, err)
	case result == nil:
		result = []byte{}
	}
	return result, nil
}

// worse is the exit code for two: that of one which a signal ended, else of the newer
// of those that are not 0.
func worse(before, exit int) int {
	if exit == 0 || before > signalled && exit <= signalled {
		return before
	}
	return exit
}

// handOver records that a job's result goes to a party next, once for each party.
func (r *room) handOver(ctx context.Context, w *work, party string, handed *statement.Handed) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
	defer cancel()
	err := r.record.RecordJob(ctx, statement.Job{ID: w.id, Phase: statement.PhaseResult, Party: party, Result: handed})
	if err == nil {
		r.jobs.set(w, func() { w.given = append(w.given, party) })
		r.log.Info("a job's result is handed over", "job", w.id, "party", party, "bytes", handed.Size)
	}
	return err
}
