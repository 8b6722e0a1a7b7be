package governance

import (
	"context"

	"cloister/governance/statement"
)

// StartJob records that a job starts next; ask has the question for consent, with a
// nonce of its own, go before it in the same append. The caller starts it only after
// nil.
func (r *Run) StartJob(ctx context.Context, j statement.Job, ask bool) error {
	j.Phase = statement.PhaseStart
	bodies := []body{jobBody(j)}
	if ask {
		question, err := r.question(statement.ScopeExecution, "starting job "+j.ID)
		if err != nil {
			return err
		}
		bodies = []body{question, bodies[0]}
	}
	_, err := r.append(ctx, bodies...)
	return err
}

// RecordJob records what became of a job, or what becomes of its result next.
func (r *Run) RecordJob(ctx context.Context, j statement.Job) error { return r.say(ctx, jobBody(j)) }

func jobBody(j statement.Job) body {
	return func(head statement.Run) statement.Body {
		j := j
		j.Run = head
		return &j
	}
}

// Follow reads the log to its newest checkpoint, so that Party is what it says there.
func (r *Run) Follow(ctx context.Context) error {
	release, err := r.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	return r.look(ctx)
}

// RecordRefusal records that a step was not taken, and why.
func (r *Run) RecordRefusal(ctx context.Context, step string, why error) error {
	_, err := r.Record(ctx, Event{Kind: EventRefusal, Name: step, Detail: why.Error()})
	return err
}

// Party returns the party whose signing key this is, as the newest checkpoint has
// it that the run has verified: after a rotation the new one. It waits for nothing.
func (r *Run) Party(key statement.PublicKey) (name string, ok bool) {
	name, ok = (*r.parties.Load())[key.Fingerprint()]
	return name, ok
}

// partyKeys are the names of those who may speak for a party, by fingerprint.
func (s *State) partyKeys() map[string]string {
	names := map[string]string{}
	for fingerprint, by := range s.keys {
		names[fingerprint] = by.party
	}
	return names
}
