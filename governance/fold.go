package governance

import (
	"errors"
	"time"

	"cloister/governance/statement"
)

// judged is an entry that may be appended: what it says, and what it changes.
type judged struct {
	*statement.Opened
	commit func(entry int64)
}

// Check reports whether an entry may be the log's next. It changes nothing.
// A refusal is an error that ReasonOf and fault.KindOf understand.
func (s *State) Check(entry []byte) error {
	_, err := s.judge(entry)
	return err
}

// CheckAll returns how many of the entries, each after the one before it, may be
// the log's next, and why the one after those may not. It changes nothing.
func (s *State) CheckAll(entries [][]byte) (int, error) {
	after := s
	if len(entries) > 1 {
		after = s.Fork()
	}
	for i, entry := range entries {
		if i == len(entries)-1 {
			if err := after.Check(entry); err != nil {
				return i, err
			}
		} else if _, err := after.Apply(int64(i), entry); err != nil {
			return i, err
		}
	}
	return len(entries), nil
}

// Apply folds the log's next entry, whose index the caller gives. An entry that
// Check refuses changes nothing, except that an unknown type is counted.
func (s *State) Apply(index int64, entry []byte) (*statement.Statement, error) {
	return s.apply(index, open(entry))
}

func (s *State) apply(index int64, e opened) (*statement.Statement, error) {
	j, err := s.judgeOpened(e)
	if err != nil {
		if ReasonOf(err) == UnknownType {
			s.unknown++
		}
		return nil, err
	}
	for _, id := range j.Signers {
		s.count(id, j.Body)
	}
	s.newest = later(s.newest, j.Time)
	j.commit(index)
	return &j.Statement, nil
}

// count notes a signer's counter. A run's is its sequence.
func (s *State) count(id statement.SignerID, body statement.Body) {
	if _, run := body.(statement.RunBody); run {
		return
	}
	if s.counters == nil {
		s.counters = map[string]uint64{}
	}
	s.counters[id.Key] = id.Counter
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (s *State) judge(entry []byte) (judged, error) { return s.judgeOpened(open(entry)) }

func (s *State) judgeOpened(e opened) (judged, error) {
	if errors.Is(e.err, statement.ErrUnknownType) {
		return judged{}, Refuse(UnknownType, "use a newer cloister", "%w", e.err)
	}
	if e.err != nil {
		return judged{}, Refuse(Malformed, "make it with a cloister of the ledger's version", "malformed statement: %w", e.err)
	}
	opened := e.Opened
	if s.digest != "" && opened.Contract != s.contract.ID {
		return judged{}, Refuse(WrongContract, "name the ledger of that contract", "the statement is about contract %q, this log is of %q", opened.Contract, s.contract.ID)
	}
	if body, ok := opened.Body.(statement.RunBody); ok {
		return s.judgeRun(opened, body)
	}
	return s.judgeParty(opened)
}

// authenticate checks the signature of a statement that takes one.
func (s *State) authenticate(o *statement.Opened, key statement.PublicKey) error {
	if len(o.Signers) != 1 {
		return Refuse(WrongSignature, "sign it once", "%s has %d signers, want 1", o.Body.Type(), len(o.Signers))
	}
	if err := o.Verify(0, key); err != nil {
		return Refuse(WrongSignature, "sign it with the key that it names, and send it as it was signed", "wrong signature: %w", err)
	}
	return nil
}

func (s *State) checkCounter(id statement.SignerID) error {
	if last := s.counter(id.Key); id.Counter <= last {
		return Refuse(Replayed, "sign a new statement", "replayed: the signer's counter is %d and was %d before", id.Counter, last)
	}
	return nil
}
