package governance

import (
	"bytes"

	"cloister/governance/statement"
)

// current returns the key that stands for spki now: itself, or the last of those
// that one after the other took its place.
func (s *State) current(spki []byte) (statement.PublicKey, error) {
	key, err := statement.ParsePublicKey(spki)
	if err != nil {
		return key, err
	}
	// A rotation leads to a key that was never in use, so this ends.
	for next, ok := s.retired[key.Fingerprint()]; ok; next, ok = s.retired[key.Fingerprint()] {
		key = next
	}
	return key, nil
}

// sameKey reports whether two keys stand for the same one now; nil is none.
func (s *State) sameKey(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	keyA, errA := s.current(a)
	keyB, errB := s.current(b)
	return errA == nil && errB == nil && keyA.Fingerprint() == keyB.Fingerprint()
}

// Replaced returns the key that stands for spki now: itself, or the newest of those
// that rotations put in its place.
func (s *State) Replaced(spki []byte) (statement.PublicKey, error) { return s.current(spki) }

// vouch makes the newest version's parties those who may vouch for each other's
// rotations. It is called for the first version, and whenever all have approved:
// a party that an amendment brings in vouches for nobody before, or whoever has
// one stolen key could bring in a second.
func (s *State) vouch() {
	s.vouchers = map[string]bool{}
	for fingerprint := range s.keys {
		s.vouchers[fingerprint] = true
	}
}

// rotation is who signs to change a party's key.
type rotation struct {
	party          string
	old, next      statement.PublicKey
	recovery       statement.PublicKey // as it is now; zero for none
	nextRecovery   statement.PublicKey // zero: it stays
	hasRecovery    bool
	rotateRecovery bool
}

func (s *State) judgeRotate(o *statement.Opened, body *statement.Rotate) (judged, error) {
	r, err := s.rotation(body)
	if err != nil {
		return judged{}, err
	}
	if err := s.checkSigners(o, r); err != nil {
		return judged{}, err
	}
	for _, id := range o.Signers {
		if err := s.checkCounter(id); err != nil {
			return judged{}, err
		}
	}
	if s.status == Withdrawn {
		return judged{}, Refuse(WrongState, "propose a new contract, in a new log, with the new key", "%s: the contract is withdrawn", o.Body.Type())
	}
	if o.Version != s.contract.Version {
		return judged{}, Refuse(StaleVersion, "look at the newest version and sign again",
			"%s is about version %d, the newest is %d", o.Body.Type(), o.Version, s.contract.Version)
	}
	if err := s.checkFresh(r); err != nil {
		return judged{}, err
	}
	return judged{o, func(int64) { s.rotate(r) }}, nil
}

func (s *State) rotation(body *statement.Rotate) (r rotation, err error) {
	p, ok := s.contract.Party(body.Party)
	if !ok {
		return r, Refuse(NotAParty, "name a party of the contract", "%q is no party of contract %q", body.Party, s.contract.ID)
	}
	r.party, r.hasRecovery, r.rotateRecovery = p.Name, p.Recovery != nil, body.Recovery != nil
	parse := func(key *statement.PublicKey, spki []byte) {
		if err == nil && spki != nil {
			*key, err = s.current(spki)
		}
	}
	parse(&r.old, p.Key)
	parse(&r.recovery, p.Recovery)
	if err == nil {
		r.next, err = statement.ParsePublicKey(body.Key)
	}
	if err == nil && r.rotateRecovery {
		r.nextRecovery, err = statement.ParsePublicKey(body.Recovery)
	}
	if err != nil {
		return r, Refuse(Malformed, "make it with cloister party rotate", "malformed statement: %w", err)
	}
	return r, nil
}

// checkSigners wants the old key, the new one, and one that vouches.
func (s *State) checkSigners(o *statement.Opened, r rotation) error {
	var old, next, voucher bool
	for i, id := range o.Signers {
		if by, retired := s.retired[id.Key]; retired {
			return Refuse(RetiredKey, "sign with the key that took its place", "key %s was replaced by %s", id.Key, by.Fingerprint())
		}
		key, vouches := s.voucher(id.Key, r)
		switch id.Key {
		case r.old.Fingerprint():
			key, old = r.old, true
		case r.next.Fingerprint():
			key, next = r.next, true
		default:
			if !vouches {
				return Refuse(NotAParty, "sign with the recovery key, or have another party sign", "key %s cannot vouch for party %q", id.Key, r.party)
			}
			voucher = true
		}
		if err := o.Verify(i, key); err != nil {
			return Refuse(WrongSignature, "sign it with the keys that it names, and send it as it was signed", "wrong signature: %w", err)
		}
	}
	if !old || !next || !voucher || len(o.Signers) != 3 {
		return Refuse(HalfSigned, "sign it with the old key, the new key, and the recovery key or another party's",
			"the rotation of party %q is not signed with the three keys that it takes", r.party)
	}
	return nil
}

// voucher returns the key with that fingerprint if it can vouch for r: the
// party's recovery key, or the key of another party.
func (s *State) voucher(fingerprint string, r rotation) (statement.PublicKey, bool) {
	if r.hasRecovery && fingerprint == r.recovery.Fingerprint() {
		return r.recovery, true
	}
	by, ok := s.keys[fingerprint]
	return by.key, ok && s.vouchers[fingerprint] && by.party != r.party
}

// checkFresh wants keys that nobody in this log has or had.
func (s *State) checkFresh(r rotation) error {
	fresh := []statement.PublicKey{r.next}
	if r.rotateRecovery {
		if !r.hasRecovery {
			return Refuse(WrongState, "leave the recovery key out, or amend the contract with one", "party %q has no recovery key that could be replaced", r.party)
		}
		fresh = append(fresh, r.nextRecovery)
	}
	for _, key := range fresh {
		if s.used(key.Fingerprint()) {
			return Refuse(WrongState, "make a new key for it", "key %s is or was in use in this log", key.Fingerprint())
		}
	}
	return nil
}

func (s *State) used(fingerprint string) bool {
	_, party := s.keys[fingerprint]
	_, retired := s.retired[fingerprint]
	signed := s.counter(fingerprint) > 0
	for _, p := range s.contract.Parties {
		if recovery, err := s.current(p.Recovery); err == nil && recovery.Fingerprint() == fingerprint {
			return true
		}
	}
	return party || retired || signed
}

// rotate puts the new key in the old one's place. What the party has said stays
// said.
func (s *State) rotate(r rotation) {
	old, next := r.old.Fingerprint(), r.next.Fingerprint()
	s.retire(old, r.next)
	delete(s.keys, old)
	s.keys[next] = signer{r.party, r.next}
	if s.vouchers[old] {
		delete(s.vouchers, old)
		s.vouchers[next] = true
	}
	if r.rotateRecovery {
		s.retire(r.recovery.Fingerprint(), r.nextRecovery)
	}
}

func (s *State) retire(old string, by statement.PublicKey) {
	if s.retired == nil {
		s.retired = map[string]statement.PublicKey{}
	}
	s.retired[old] = by
}
