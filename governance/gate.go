package governance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"

	"cloister/governance/statement"
	"cloister/internal/fault"
)

// Kinds of events that a gate records, beside the kinds of access that package
// statement names.
const (
	EventConsent   = "consent"   // do all parties consent to the step Name?
	EventExecution = "execution" // the application Name starts
	EventRefusal   = "refusal"   // the step Name was not taken, for the reason in Detail
)

// Event is what a gate asks or records before it acts.
type Event struct {
	Kind   string // one of the above, or statement.AccessWrappedDEK and the like
	Name   string // of the secret, key, volume, application or step
	Volume string // name or reference of the volume it is about, if any
	Detail string
}

// CheckConsent asks the log whether all parties consent to a scope
// (statement.ScopeExecution and the like) now, for the step that what names. It
// returns nil only if the log, followed to a checkpoint that covers the
// question, says so.
func (r *Run) CheckConsent(ctx context.Context, scope, what string) error {
	question, err := r.question(scope, what)
	if err != nil {
		return err
	}
	return r.say(ctx, question)
}

func (r *Run) question(scope, what string) (body, error) {
	var nonce [32]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, err
	}
	return func(head statement.Run) statement.Body {
		return &statement.ConsentCheck{Evidence: r.hash, Nonce: hex.EncodeToString(nonce[:]), Run: head, Scope: scope, What: what}
	}, nil
}

// answer reads the answer to a check off the view, which is right after it. The
// nonce makes sure that it is the answer to this question. The fold judged it by
// the times that statements name, all of which a host may have held back; here
// consent must also hold at the time that the witnesses vouch for.
func (r *Run) answer(check statement.ConsentCheck) error {
	run, _ := r.view.State().run(r.id)
	answer, _ := run.answer(check.Scope)
	if answer.nonce != check.Nonce {
		return fault.Errorf(fault.Refused, "do not trust this ledger", "the log holds no answer to this run's question")
	}
	if !answer.Allowed {
		return fault.Errorf(fault.Refused, "see cloister contract status", "no consent to %s: %s", check.Scope, answer.Reason)
	}
	if ok, why := r.view.State().allows(r.id, run, check.Scope, r.view.Time()); !ok {
		return fault.Errorf(fault.Refused, "set this machine's clock; the witnesses' is ahead of it", "no consent to %s at the witnesses' time: %s", check.Scope, why)
	}
	return nil
}

// Record asks and records events, one after the other, in one append, and returns
// nil once all are in the verified log and every question among them is answered
// yes. The caller acts only then. Nothing after an event that the ledger refuses
// is appended; accepted is how many came before the one that the error is about.
func (r *Run) Record(ctx context.Context, events ...Event) (accepted int, err error) {
	var bodies []body
	for _, e := range events {
		b, err := r.body(e)
		if err != nil {
			return 0, err
		}
		bodies = append(bodies, b)
	}
	return r.append(ctx, bodies...)
}

func (r *Run) body(e Event) (body, error) {
	accesses := []string{statement.AccessWrappedDEK, statement.AccessKEK, statement.AccessData, statement.AccessCode}
	switch {
	case e.Kind == EventConsent:
		return r.question(statement.ScopeExecution, e.Name)
	case slices.Contains(accesses, e.Kind):
		return func(head statement.Run) statement.Body {
			return &statement.RecordAccess{Detail: e.Detail, Name: e.Name, Run: head, Volume: e.Volume, What: e.Kind}
		}, nil
	case e.Kind == EventExecution:
		return func(head statement.Run) statement.Body {
			return &statement.RecordExecution{Application: e.Name, Detail: e.Detail, Phase: statement.PhaseStart, Run: head}
		}, nil
	case e.Kind == EventRefusal:
		return func(head statement.Run) statement.Body {
			return &statement.RunRefusal{Reason: statement.Text(e.Detail), Run: head, Step: e.Name}
		}, nil
	default:
		return nil, fault.Errorf(fault.Internal, "report it: this is a defect", "no statement records an event of kind %q", e.Kind)
	}
}

// say appends one statement.
func (r *Run) say(ctx context.Context, b body) error {
	_, err := r.append(ctx, b)
	return err
}

// RecordEnd records that the application ended, with its exit code and the
// outputs' references.
func (r *Run) RecordEnd(ctx context.Context, application string, exit int, outputs []statement.Output) error {
	return r.say(ctx, func(head statement.Run) statement.Body {
		return &statement.RecordExecution{Application: application, Exit: &exit, Outputs: byName(outputs), Phase: statement.PhaseEnd, Run: head}
	})
}

// RecordJournalHead pins how far an output volume has come.
func (r *Run) RecordJournalHead(ctx context.Context, volume string, h Head) error {
	return r.say(ctx, func(run statement.Run) statement.Body {
		return &statement.JournalHead{Epoch: h.Epoch, Head: h.Digest, Run: run, Sequence: h.Sequence, Volume: volume}
	})
}

// OutputHead is State.OutputHead of the log as this run has verified it.
func (r *Run) OutputHead(ctx context.Context, volume string) (Head, bool, error) {
	release, err := r.take(ctx)
	if err != nil {
		return Head{}, false, err
	}
	defer release()
	h, ok := r.view.State().OutputHead(volume)
	return h, ok, nil
}

// Complete ends the run. complete is false where an output is partial or not
// all durable. The run records nothing after it.
func (r *Run) Complete(ctx context.Context, exit int, complete bool, detail string, outputs []statement.Output) error {
	return r.say(ctx, func(head statement.Run) statement.Body {
		return &statement.Completion{Complete: complete, Detail: detail, Exit: exit, Outputs: byName(outputs), Run: head}
	})
}

func byName(outputs []statement.Output) []statement.Output {
	sorted := slices.Clone(outputs)
	slices.SortFunc(sorted, func(a, b statement.Output) int { return strings.Compare(a.Name, b.Name) })
	return sorted
}

// RecordEgress tells what the application reached, or is about to: at most
// statement.MaxEgress decisions, in their order.
func (r *Run) RecordEgress(ctx context.Context, decisions []statement.EgressDecision) error {
	_, err := r.append(ctx, func(head statement.Run) statement.Body {
		return &statement.Egress{Decisions: decisions, Run: head}
	})
	return err
}

// RecordIngress tells how often endpoints turned clients away: at most
// statement.MaxIngress refusals, in their order.
func (r *Run) RecordIngress(ctx context.Context, refusals []statement.IngressRefusal) error {
	return r.say(ctx, func(head statement.Run) statement.Body {
		return &statement.Ingress{Refusals: refusals, Run: head}
	})
}

// RecordAppEvent passes on what the application says, once all parties' consent
// to logging is in the log. data is JSON of at most statement.MaxEventData bytes.
func (r *Run) RecordAppEvent(ctx context.Context, id, scope string, data []byte) error {
	question, err := r.question(statement.ScopeLogging, "passing on the application's event")
	if err != nil {
		return err
	}
	_, err = r.append(ctx, question, func(head statement.Run) statement.Body {
		return &statement.AppEvent{Data: data, ID: id, Run: head, Scope: scope}
	})
	return err
}
