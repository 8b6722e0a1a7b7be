package governance

import (
	"cloister/governance/statement"
)

func (s *State) judgeRun(o *statement.Opened, body statement.RunBody) (judged, error) {
	if begin, ok := body.(*statement.RunBegin); ok {
		return s.judgeBegin(o, begin)
	}
	head := body.Header()
	r, ok := s.run(head.ID)
	if !ok {
		return judged{}, Refuse(UnknownRun, "start the run again", "%s by run %s, which did not begin", o.Body.Type(), head.ID)
	}
	if err := s.authenticate(o, r.key); err != nil {
		return judged{}, err
	}
	if err := r.checkChain(o, head); err != nil {
		return judged{}, err
	}
	commit, err := s.judgeRecord(o, r, body)
	if err != nil {
		return judged{}, err
	}
	entryDigest := o.EntryDigest()
	return judged{o, func(entry int64) {
		r := s.ownRun(head.ID)
		r.sequence, r.previous = o.Signers[0].Counter, entryDigest
		commit(r, entry)
	}}, nil
}

func (s *State) judgeBegin(o *statement.Opened, body *statement.RunBegin) (judged, error) {
	key, err := statement.ParsePublicKey(body.AuditKey)
	if err != nil {
		return judged{}, Refuse(Malformed, "run a cloisterd of the ledger's version", "malformed statement: %w", err)
	}
	if err := s.authenticate(o, key); err != nil {
		return judged{}, err
	}
	if err := s.checkCounter(o.Signers[0]); err != nil {
		return judged{}, err
	}
	if _, again := s.run(body.Run.ID); again || o.Signers[0].Counter != 1 {
		return judged{}, Refuse(Replayed, "start the run again: each has an id of its own", "run %s begins again, or not with sequence 1", body.Run.ID)
	}
	if s.Status() != Accepted {
		return judged{}, Refuse(WrongState, "wait until all parties have approved", "the contract is %s, a run carries out an accepted one", s.Status())
	}
	if o.Version != s.contract.Version {
		return judged{}, Refuse(StaleVersion, "start the run again, with the newest version's specification", "the run is about version %d, the newest is %d", o.Version, s.contract.Version)
	}
	if body.ContractDigest != s.digest {
		return judged{}, Refuse(WrongDigest, "start the run again, with the newest version's specification", "the run carries out %s, version %d is %s", body.ContractDigest, s.contract.Version, s.digest)
	}
	if n := replicasOf(s.contract); body.Replica >= n {
		return judged{}, Refuse(Malformed, "start as many replicas as the contract has, from 0", "the run is replica %d, and version %d has %d", body.Replica, s.contract.Version, n)
	}
	evidence, err := body.Evidence.Digest()
	if err != nil {
		return judged{}, Refuse(Malformed, "run a cloisterd of the ledger's version", "malformed statement: %w", err)
	}
	if s.Evidence != nil {
		if err := s.Evidence(body, s.contract); err != nil {
			return judged{}, Refuse(Unapproved, "run what the parties approved, where they approved it", "the evidence of run %s: %w", body.Run.ID, err)
		}
	}
	r := &run{key: key, version: o.Version, replica: body.Replica, evidence: evidence, sequence: 1, previous: o.EntryDigest()}
	return judged{o, func(entry int64) {
		r.begun = entry
		s.addRun(parseRunID(body.Run.ID), r)
	}}, nil
}

func (s *State) addRun(id runID, r *run) {
	s.runs.set(id, r)
	s.auditKeys.set(parseKeyID(r.key.Fingerprint()), id)
}

// checkChain holds a record to its place: after exactly the record before it,
// about the version that the run began with.
func (r *run) checkChain(o *statement.Opened, head statement.Run) error {
	counter := o.Signers[0].Counter
	switch {
	case r.end != nil:
		return Refuse(WrongState, "start another run", "%s by run %s, which is completed", o.Body.Type(), head.ID)
	case counter <= r.sequence:
		return Refuse(Replayed, "start the run again: nobody else may speak in its name", "replayed: record %d of run %s, which is at %d", counter, head.ID, r.sequence)
	case counter != r.sequence+1:
		return Refuse(BrokenChain, "start the run again: its record has a gap", "record %d of run %s follows record %d", counter, head.ID, r.sequence)
	case head.Previous != r.previous:
		return Refuse(BrokenChain, "start the run again: its record does not go on from what is here", "record %d of run %s names %s as the one before, it is %s", counter, head.ID, head.Previous, r.previous)
	case o.Version != r.version:
		return Refuse(StaleVersion, "start the run again", "record %d of run %s is about version %d, the run about %d", counter, head.ID, o.Version, r.version)
	}
	return nil
}

// recorded is what a record changes beside its run's place in the chain.
type recorded func(r *run, entry int64)

func nothing(*run, int64) {}

// judgeRecord judges a record that is in its place. What happened can always be
// told; what is about to happen needs consent.
func (s *State) judgeRecord(o *statement.Opened, r *run, body statement.RunBody) (recorded, error) {
	id := body.Header().ID
	switch b := body.(type) {
	case *statement.ConsentCheck:
		return s.judgeConsentCheck(o, r, b)
	case *statement.RecordAccess:
		return nothing, s.requireConsent(o, r, id, statement.ScopeExecution)
	case *statement.Job:
		if b.Phase == statement.PhaseEnd {
			return nothing, nil
		}
		return nothing, s.requireConsent(o, r, id, statement.ScopeExecution)
	case *statement.AppEvent:
		return nothing, s.requireConsent(o, r, id, statement.ScopeLogging)
	case *statement.RecordExecution:
		return s.judgeExecution(o, r, b)
	case *statement.Completion:
		return func(r *run, _ int64) { r.complete(b) }, nil
	case *statement.JournalHead:
		return func(r *run, _ int64) { s.raise(r.version, b) }, nil
	default:
		return nothing, nil
	}
}

// judgeConsentCheck accepts the question and commits its answer, yes or no.
func (s *State) judgeConsentCheck(o *statement.Opened, r *run, b *statement.ConsentCheck) (recorded, error) {
	if b.Evidence != r.evidence {
		return nil, Refuse(WrongDigest, "start the run again", "consent is asked with evidence %s, run %s began with %s", b.Evidence, b.Run.ID, r.evidence)
	}
	allowed, why := s.allows(b.Run.ID, r, b.Scope, o.Time)
	return func(r *run, entry int64) {
		r.setAnswer(b.Scope, Answer{Entry: entry, Allowed: allowed, Reason: why, nonce: b.Nonce})
		if allowed {
			s.countRun(b.Run.ID, b.Scope)
		}
	}, nil
}

// requireConsent refuses a step unless the run's newest question was answered
// yes and nothing has changed since.
func (s *State) requireConsent(o *statement.Opened, r *run, id, scope string) error {
	answer, asked := r.answer(scope)
	if !asked {
		return Refuse(NoConsent, "start the run again: it must ask before each step", "%s by run %s, which has not asked for consent", o.Body.Type(), id)
	}
	if !answer.Allowed {
		return Refuse(NoConsent, "have the parties consent with cloister consent grant, and start the run again", "%s by run %s without consent: %s", o.Body.Type(), id, answer.Reason)
	}
	if ok, why := s.allows(id, r, scope, o.Time); !ok {
		return Refuse(NoConsent, "have the parties consent with cloister consent grant, and start the run again", "%s by run %s without consent: %s", o.Body.Type(), id, why)
	}
	return nil
}

func (s *State) judgeExecution(o *statement.Opened, r *run, b *statement.RecordExecution) (recorded, error) {
	if b.Phase == statement.PhaseEnd {
		if r.started != b.Application {
			return nil, Refuse(WrongState, "start the run again", "application %q of run %s ends, %q runs", b.Application, b.Run.ID, r.started)
		}
		return func(r *run, _ int64) { r.started = "" }, nil
	}
	if r.started != "" {
		return nil, Refuse(WrongState, "start the run again", "application %q of run %s starts while %q runs", b.Application, b.Run.ID, r.started)
	}
	return func(r *run, _ int64) { r.started = b.Application }, s.requireConsent(o, r, b.Run.ID, statement.ScopeExecution)
}
