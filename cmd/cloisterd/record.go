package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"cloister/enclave"
	"cloister/fs"
	"cloister/fs/format"
	"cloister/governance"
	"cloister/governance/statement"
)

// answerTime is how long the ledger has to answer while the application runs: no
// answer is not a yes. An append takes milliseconds.
const answerTime = 10 * time.Second

// watch asks for consent again while the application runs, and records how far
// the outputs have come; it ends the application when that cannot be done.
func (r *room) watch(ctx context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(r.consentInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := r.goOn(ctx); err != nil && ctx.Err() == nil {
			r.log.Error("ending the application", "error", err)
			stop(fmt.Errorf("the application was ended: %w", err))
			return
		}
	}
}

// goOn is seen to its end although the application has ended meanwhile: a record
// that was given up on its way may still come into the log, and take the place of
// the next one.
func (r *room) goOn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
	defer cancel()
	began := time.Now()
	err := r.record.CheckConsent(ctx, enclave.ScopeExecution, "going on with "+r.spec.Application.Name)
	r.monitor.consent.took(began, 0, err)
	if err != nil {
		return err
	}
	if r.says.allowed.Load() {
		r.askLogging(ctx)
	}
	r.telemetryGoesOn(ctx)
	if err := r.reportTraffic(ctx); err != nil {
		return err
	}
	return r.recordHeads(ctx)
}

// recordHeads pins how far the outputs have come since it was last recorded. A
// store can withhold what came after the last record, and nothing before.
func (r *room) recordHeads(ctx context.Context) error {
	for _, v := range r.mounts.open {
		if v.output == nil {
			continue
		}
		h := v.output.Head()
		if h == v.pinned {
			continue
		}
		if err := r.record.RecordJournalHead(ctx, v.name, stated(h)); err != nil {
			return fmt.Errorf("pinning output %s: %w", v.name, err)
		}
		v.pinned = h
	}
	return nil
}

const digestPrefix = "sha256:" // of a digest in a statement

// stated is a head as statements write it.
func stated(h fs.Head) governance.Head {
	return governance.Head{Epoch: h.Epoch, Sequence: h.Sequence, Digest: digestPrefix + h.Digest.String()}
}

// knownHead is how far the record says an output has come.
func (r *room) knownHead(ctx context.Context, volume string) (*fs.Head, error) {
	said, ok, err := r.record.OutputHead(ctx, volume)
	if !ok || err != nil {
		return nil, err
	}
	digest, err := format.ParseDigest(strings.TrimPrefix(said.Digest, digestPrefix))
	if err != nil {
		return nil, fmt.Errorf("reading the record of output %s: %w", volume, err)
	}
	return &fs.Head{Epoch: said.Epoch, Sequence: said.Sequence, Digest: digest}, nil
}

// finish records what came of the run. No process of the application is left by
// now, outputs are in the store and nothing is mounted. What is not all durable
// or did not come to its end is never reported complete, and the exit code is
// the application's only where it is.
func (r *room) finish(ctx context.Context, end ending, outputs []output) (exit int, err error) {
	r.telemetryGoesOn(ctx)
	partial := errors.Join(end.err, end.crash())
	if err := r.recordEnd(ctx, end, partial, outputs); err != nil {
		return 0, errors.Join(end.err, err)
	}
	word := "output"
	if partial != nil {
		word = "partial"
	}
	for _, o := range outputs {
		fmt.Fprintln(r.out, word, o.name, o.reference)
	}
	r.monitor.reached("run ends")
	r.sendTrace(ctx)
	r.log.Info("run ends", "complete", partial == nil, "exit", end.exit)
	return end.exit, end.err
}

func (r *room) recordEnd(ctx context.Context, end ending, partial error, outputs []output) error {
	if err := r.reportTraffic(ctx); err != nil {
		return err
	}
	var said []statement.Output
	for _, o := range outputs {
		said = append(said, statement.Output{Name: o.name, Reference: o.reference.String(), Check: o.reference.Check.String()})
		head := fs.Head{Epoch: o.reference.Epoch, Digest: o.reference.Manifest}
		if err := r.record.RecordJournalHead(ctx, o.name, stated(head)); err != nil {
			return fmt.Errorf("pinning output %s: %w", o.name, err)
		}
	}
	if end.started {
		if err := r.record.RecordEnd(ctx, r.spec.Application.Name, end.exit, said); err != nil {
			return err
		}
	}
	detail := ""
	if partial != nil {
		detail = statement.Text(partial.Error())
	}
	return r.record.Complete(ctx, end.exit, partial == nil, detail, said)
}

// auditor is the run's record as the gate knows it, with a line in the log for
// each step.
type auditor struct {
	run     *governance.Run
	log     *slog.Logger
	monitor *monitor
}

func (a auditor) Record(ctx context.Context, events ...enclave.Event) (accepted int, err error) {
	said := make([]governance.Event, len(events))
	for i, e := range events {
		said[i] = governance.Event(e)
		if e.Kind == enclave.EventConsent {
			a.log.Info("consent is asked", "for", e.Name)
		} else {
			a.log.Info("audit", "what", e.Kind, "name", e.Name, "volume", e.Volume)
		}
	}
	began := time.Now()
	accepted, err = a.run.Record(ctx, said...)
	a.monitor.recorded(events, accepted, began, err)
	if err == nil {
		a.log.Info("the ledger accepted", "records", accepted)
	}
	return accepted, err
}
