package governance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloister/governance/statement"
	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/tlog"
)

// Finding is one check of an audit: what was looked at, and what was seen.
type Finding struct {
	Check string `json:"check"`
	Run   string `json:"run,omitempty"` // of a check of one run
	OK    bool   `json:"ok"`
	// Skipped is true where nothing was looked at: OK then means nothing.
	Skipped bool   `json:"skipped,omitempty"`
	Detail  string `json:"detail"`
}

// Report is what an audit found, always in the same order.
type Report struct {
	Entries  int64       `json:"entries"`
	Status   Status      `json:"status"`
	Runs     []RunStatus `json:"runs"`
	Findings []Finding   `json:"findings"`
	// Head is the verified checkpoint, signed: what the next audit remembers.
	Head []byte `json:"-"`
}

// Err returns an error of kind fault.Refused that names the failed checks.
func (r Report) Err() error {
	var failed []error
	for _, f := range r.Findings {
		if !f.OK {
			failed = append(failed, fmt.Errorf("%s: %s", f.Check, f.Detail))
		}
	}
	if failed == nil {
		return nil
	}
	return fault.Errorf(fault.Refused, "keep a copy of the ledger and of the remembered head: they are the evidence",
		"the audit failed: %w", errors.Join(failed...))
}

// Auditor verifies a whole log.
type Auditor struct {
	// Key is the ledger's verifier key.
	Key string
	// Witnesses are those whose cosignatures the checkpoint needs.
	Witnesses Witnesses
	// Remembered is a signed checkpoint of an earlier audit, nil for none.
	Remembered []byte
	// Evidence judges the evidence of a run that carries out a contract version.
	// Nil leaves it unjudged, and the report says so.
	Evidence func(begin *statement.RunBegin, contract statement.Contract) error

	report   Report
	roots    []tlog.Hash // by size
	runs     map[string]*auditedRun
	order    []string
	versions map[string]statement.Contract // by digest
	refused  []error
}

type auditedRun struct {
	begin       *statement.RunBegin
	records     int
	checkpoints error
	refusals    refusedClients
}

// Audit reads the log and makes every check. An error means that it could not
// be carried out; what it found is in the report.
func (a *Auditor) Audit(ctx context.Context, log Source) (Report, error) {
	a.runs, a.versions, a.roots = map[string]*auditedRun{}, map[string]statement.Contract{}, []tlog.Hash{(&Frontier{}).Root()}
	view := NewCosignedView(a.Key, a.Witnesses)
	err := view.AdvanceToNewest(ctx, log, func(seen Seen) {
		a.see(seen)
		a.roots = append(a.roots, view.Tree().Root())
	})
	if err != nil && fault.KindOf(err) != fault.Refused {
		return a.report, err
	}
	a.report.Entries, a.report.Status, a.report.Runs = view.Tree().Size(), view.State().Status(), view.State().Runs()
	if !a.checkLog(view, err) {
		return a.report, nil
	}
	a.checkRemembered()
	a.checkStatements()
	for _, id := range a.order {
		r, _ := view.State().run(id)
		a.checkRun(id, r)
	}
	a.checkReplicas()
	return a.report, nil
}

func (a *Auditor) found(check, run string, ok bool, format string, args ...any) {
	a.report.Findings = append(a.report.Findings, Finding{Check: check, Run: run, OK: ok, Detail: fmt.Sprintf(format, args...)})
}

func (a *Auditor) skipped(check, run, why string) {
	a.report.Findings = append(a.report.Findings, Finding{Check: check, Run: run, OK: true, Skipped: true, Detail: why})
}

// see takes from an entry what its run's checks need. The entry's own index is
// the size of the log before it.
func (a *Auditor) see(seen Seen) {
	if seen.Refused != nil {
		a.refused = append(a.refused, fmt.Errorf("entry %d: %w", seen.Index, seen.Refused))
		return
	}
	switch b := seen.Statement.Body.(type) {
	case *statement.Propose:
		a.seeVersion(b.Contract)
	case *statement.Amend:
		a.seeVersion(b.Contract)
	case *statement.RunBegin:
		a.order = append(a.order, b.Run.ID)
		a.runs[b.Run.ID] = &auditedRun{begin: b, refusals: refusedClients{}}
	case *statement.Ingress:
		a.runs[b.Run.ID].refusals.add(b)
	}
	if body, ok := seen.Statement.Body.(statement.RunBody); ok {
		a.seeRecord(seen.Index, body.Header())
	}
}

func (a *Auditor) seeVersion(contract statement.Contract) {
	if digest, err := contract.Digest(); err == nil {
		a.versions[digest] = contract
	}
}

// seeRecord holds the checkpoint that the enclave says it had verified to the
// log that is audited. Another one means that the enclave was shown another log.
func (a *Auditor) seeRecord(index int64, head statement.Run) {
	r := a.runs[head.ID]
	r.records++
	size := head.Checkpoint.Size
	if r.checkpoints == nil && (size > uint64(index) || Checkpoint{Size: int64(size), Root: a.roots[size]}.named() != head.Checkpoint) {
		r.checkpoints = fmt.Errorf("entry %d names a log of %d entries with root %s, which this log never was", index, size, head.Checkpoint.Root)
	}
}

func (a *Auditor) checkLog(view *View, err error) bool {
	if err != nil {
		a.found("log", "", false, "%v", err)
		return false
	}
	checkpoint, signed := view.Checkpoint()
	a.report.Head = signed
	a.foundWitnesses(view.Time())
	a.found("log", "", true, "%d entries have the root of the checkpoint that %s signed", checkpoint.Size, checkpoint.Origin)
	return true
}

func (a *Auditor) foundWitnesses(at time.Time) {
	if needed := a.Witnesses.Needed(); needed > 0 {
		a.found("witnesses", "", true, "at least %d of %d witnesses cosigned the checkpoint, the last at %s", needed, len(a.Witnesses.Keys), at.UTC().Format(time.RFC3339))
	}
}

func (a *Auditor) checkRemembered() {
	if a.Remembered == nil {
		return
	}
	const check = "remembered head"
	was, err := OpenCheckpoint(a.Remembered, a.Key)
	switch {
	case err != nil:
		a.found(check, "", false, "%v", err)
	case was.Size >= int64(len(a.roots)):
		a.found(check, "", false, "%d entries were there before, %d are there now: the log was rolled back", was.Size, len(a.roots)-1)
	case a.roots[was.Size] != was.Root:
		a.found(check, "", false, "the first %d entries are not the ones that were there before", was.Size)
	default:
		a.found(check, "", true, "the first %d entries are the ones that were there before", was.Size)
	}
}

func (a *Auditor) checkStatements() {
	const check = "statements"
	if len(a.refused) > 0 {
		a.found(check, "", false, "%d entries are not acceptable: %v", len(a.refused), errors.Join(a.refused...))
		return
	}
	a.found(check, "", true, "every entry is signed by who may say it, when it may be said")
}

func (a *Auditor) checkRun(id string, r *run) {
	audited := a.runs[id]
	a.found("sequence", id, true, "%d records, each naming the one before, no gap", audited.records)
	if audited.checkpoints != nil {
		a.found("checkpoints", id, false, "%v", audited.checkpoints)
	} else {
		a.found("checkpoints", id, true, "the run saw this log")
	}
	a.checkEvidence(audited.begin, a.versions[audited.begin.ContractDigest])
	a.tellClients(id, audited.refusals)
	a.checkEnd(id, r.end)
}

func (a *Auditor) checkEvidence(begin *statement.RunBegin, contract statement.Contract) {
	id := begin.Run.ID
	if a.Evidence == nil {
		a.skipped("evidence", id, "not judged")
	} else if err := a.Evidence(begin, contract); err != nil {
		a.found("evidence", id, false, "%v", err)
	} else {
		a.found("evidence", id, true, "the report of %s binds the audit key, the contract and the container policy", begin.Evidence.Platform)
	}
}

func (a *Auditor) checkEnd(id string, end *ending) {
	// A run that is under way has no end either, so this is told, not judged.
	switch {
	case end == nil:
		a.found("end", id, true, "INCOMPLETE: no completion is recorded")
	case !end.complete:
		a.found("end", id, true, "INCOMPLETE: %s", end.detail)
	default:
		a.found("end", id, true, "completed")
	}
}

// refusedClients are a run's refusals by its endpoints, counts by endpoint and reason.
type refusedClients map[statement.IngressRefusal]uint64

func (r refusedClients) add(b *statement.Ingress) {
	for _, one := range b.Refusals {
		r[statement.IngressRefusal{Endpoint: one.Endpoint, Reason: one.Reason}] += one.Count
	}
}

// tellClients tells what endpoints refused in all: it is judged by nobody.
func (a *Auditor) tellClients(id string, refused refusedClients) {
	if len(refused) == 0 {
		return
	}
	var all []statement.IngressRefusal
	for r, n := range refused {
		r.Count = n
		all = append(all, r)
	}
	slices.SortFunc(all, statement.IngressRefusal.Compare)
	a.found("clients", id, true, "endpoints refused: %s", refusalWords(all))
}
