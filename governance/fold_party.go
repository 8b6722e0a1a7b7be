package governance

import (
	"bytes"
	"reflect"
	"slices"

	"cloister/governance/statement"
	"cloister/policy/spec"
)

// judgeParty judges what parties say. The order of the checks is the order in
// which a signer can put things right: who, then what, then when.
func (s *State) judgeParty(o *statement.Opened) (judged, error) {
	if propose, ok := o.Body.(*statement.Propose); ok {
		return s.judgePropose(o, propose)
	}
	if s.Status() == Draft {
		return judged{}, Refuse(WrongState, "propose a contract first", "%s: no contract is proposed in this log", o.Body.Type())
	}
	if rotate, ok := o.Body.(*statement.Rotate); ok {
		return s.judgeRotate(o, rotate)
	}
	by, err := s.speaker(o.Signers[0].Key)
	if err != nil {
		return judged{}, err
	}
	if err := s.authenticate(o, by.key); err != nil {
		return judged{}, err
	}
	if err := s.checkCounter(o.Signers[0]); err != nil {
		return judged{}, err
	}
	if s.status == Withdrawn {
		return judged{}, Refuse(WrongState, "propose a new contract, in a new log", "%s: the contract is withdrawn", o.Body.Type())
	}
	commit, err := s.judgeBody(o, by.party)
	return judged{o, commit}, err
}

// speaker returns the party whose key it is, of the newest version.
func (s *State) speaker(fingerprint string) (signer, error) {
	if next, retired := s.retired[fingerprint]; retired {
		return signer{}, Refuse(RetiredKey, "sign with the party's new key", "key %s was replaced by %s", fingerprint, next.Fingerprint())
	}
	by, ok := s.keys[fingerprint]
	if !ok {
		return signer{}, Refuse(NotAParty, "sign with the key of a party", "key %s is of no party of contract %q", fingerprint, s.contract.ID)
	}
	return by, nil
}

func (s *State) judgeBody(o *statement.Opened, party string) (func(int64), error) {
	if amend, ok := o.Body.(*statement.Amend); ok {
		return s.judgeAmend(o, amend, party)
	}
	if o.Version != s.contract.Version {
		return nil, Refuse(StaleVersion, "look at the newest version and decide again",
			"%s is about version %d, the newest is %d", o.Body.Type(), o.Version, s.contract.Version)
	}
	switch body := o.Body.(type) {
	case *statement.Approve:
		return s.judgeApprove(body, party)
	case *statement.Reject:
		return s.judgeReject(body, party)
	case *statement.Withdraw:
		return func(int64) { s.status, s.ended = Withdrawn, words(party, "withdrew the contract", body.Reason) }, nil
	case *statement.ConsentGrant:
		return s.judgeGrant(body, party)
	case *statement.ConsentWithdraw:
		return func(entry int64) { s.withdrawConsent(body, party, entry) }, nil
	case *statement.ProvisionRequest, *statement.ProvisionDecline, *statement.Provisioned:
		return s.judgeProvision(body, party)
	default:
		return nil, Refuse(UnknownType, "use a newer cloister", "no rule for %s", o.Body.Type())
	}
}

func words(party, did, reason string) string {
	if reason == "" {
		return party + " " + did
	}
	return party + " " + did + ": " + reason
}

func (s *State) judgePropose(o *statement.Opened, body *statement.Propose) (judged, error) {
	next, err := s.newVersion(body.Contract, body.Specification)
	if err != nil {
		return judged{}, err
	}
	by, ok := next.keys[o.Signers[0].Key]
	if !ok {
		return judged{}, Refuse(NotAParty, "propose with the key of a party of the contract", "key %s is of no party of the proposed contract", o.Signers[0].Key)
	}
	if err := s.authenticate(o, by.key); err != nil {
		return judged{}, err
	}
	if s.Status() != Draft {
		return judged{}, Refuse(WrongState, "amend it", "contract %q is proposed already", s.contract.ID)
	}
	if err := sameVersion(o, body.Contract, 1); err != nil {
		return judged{}, err
	}
	return judged{o, func(int64) {
		s.install(next)
		s.vouch()
	}}, nil
}

// sameVersion holds statement and contract to one id and to the version that
// follows the newest.
func sameVersion(o *statement.Opened, contract statement.Contract, next uint64) error {
	if contract.ID != o.Contract {
		return Refuse(WrongContract, "propose the contract that the statement names", "the statement is about contract %q and carries %q", o.Contract, contract.ID)
	}
	if o.Version != next || contract.Version != next {
		return Refuse(StaleVersion, "look at the newest version and amend that",
			"%s carries version %d in a statement about version %d, the next is %d", o.Body.Type(), contract.Version, o.Version, next)
	}
	return nil
}

// version is a version of the contract, ready to be installed.
type version struct {
	contract      statement.Contract
	digest        string
	keys          map[string]signer
	specification []byte
}

// newVersion is the version that a contract makes. Keys that it names and that
// were replaced since stand for those in their place.
func (s *State) newVersion(contract statement.Contract, specification []byte) (version, error) {
	digest, err := contract.Digest()
	if err != nil {
		return version{}, Refuse(Malformed, "make it with cloister contract propose or amend", "malformed contract: %w", err)
	}
	if made := spec.DigestOf(specification); len(specification) > 0 && made != contract.Specification {
		return version{}, Refuse(WrongDigest, "send the specification that the contract pins", "the contract is about specification %s and comes with %s", contract.Specification, made)
	}
	keys := map[string]signer{}
	for _, p := range contract.Parties {
		key, err := s.current(p.Key)
		if err != nil {
			return version{}, Refuse(Malformed, "make it with cloister contract propose or amend", "malformed contract: %w", err)
		}
		if other, taken := keys[key.Fingerprint()]; taken {
			return version{}, Refuse(Malformed, "have each party make a key of its own", "malformed contract: party %q has the key of %q", p.Name, other.party)
		}
		keys[key.Fingerprint()] = signer{p.Name, key}
	}
	return version{contract, digest, keys, specification}, nil
}

// install puts a version in the place of the one before. What was said to
// earlier versions lapses; runs and counters stay.
func (s *State) install(v version) {
	s.repin(v.contract)
	s.status, s.contract, s.digest, s.keys, s.ended = Proposed, v.contract, v.digest, v.keys, ""
	s.approvals = map[string]int64{}
	s.consents, s.provision, s.specification = map[consentKey]*grant{}, map[string]Provision{}, v.specification
}

func (s *State) judgeAmend(o *statement.Opened, body *statement.Amend, party string) (func(int64), error) {
	if err := sameVersion(o, body.Contract, s.contract.Version+1); err != nil {
		return nil, err
	}
	v, err := s.newVersion(body.Contract, body.Specification)
	if err != nil {
		return nil, err
	}
	if err := s.checkKeys(body.Contract, party); err != nil {
		return nil, err
	}
	if err := s.checkOwners(body.Contract, party); err != nil {
		return nil, err
	}
	return func(int64) { s.install(v) }, nil
}

// checkKeys lets an amendment change nobody's keys but the speaker's recipient
// key: to change a key takes more than one signature. It may name a key that was
// rotated to.
func (s *State) checkKeys(next statement.Contract, party string) error {
	for _, now := range next.Parties {
		was, stays := s.contract.Party(now.Name)
		if _, retired := s.retired[now.Fingerprint()]; retired && !stays {
			return Refuse(RetiredKey, "name the party's new key", "key %s of party %q was replaced", now.Fingerprint(), now.Name)
		}
		if stays && !(s.sameKey(was.Key, now.Key) && s.sameKey(was.Recovery, now.Recovery)) {
			return Refuse(NotOwner, "rotate it with cloister party rotate", "an amendment cannot change the key of party %q", now.Name)
		}
		if stays && now.Name != party && !bytes.Equal(was.Recipient, now.Recipient) {
			return Refuse(NotOwner, "leave it as it is, and have that party amend", "party %q cannot change the recipient key of party %q", party, now.Name)
		}
	}
	return nil
}

// checkOwners lets a party change its own volumes only, and not leave.
func (s *State) checkOwners(next statement.Contract, party string) error {
	if _, stays := next.Party(party); !stays {
		return Refuse(NotOwner, "withdraw instead", "party %q cannot amend itself out of the contract", party)
	}
	volumes := slices.Concat(s.contract.Volumes, next.Volumes)
	for _, v := range volumes {
		was, _ := s.contract.Volume(v.Name)
		is, _ := next.Volume(v.Name)
		if v.Owner != party && !reflect.DeepEqual(was, is) {
			return Refuse(NotOwner, "ask its owner to amend it", "party %q cannot change volume %q of party %q", party, v.Name, v.Owner)
		}
	}
	return nil
}

func (s *State) judgeApprove(body *statement.Approve, party string) (func(int64), error) {
	if body.Digest != s.digest {
		return nil, Refuse(WrongDigest, "review the newest version and approve that",
			"approval of %s, version %d is %s", body.Digest, s.contract.Version, s.digest)
	}
	if _, again := s.approvals[party]; s.status != Proposed || again {
		return nil, Refuse(WrongState, "see cloister contract status", "party %q cannot approve: the contract is %s, approved by %v", party, s.status, s.Approved())
	}
	return func(entry int64) {
		s.approvals[party] = entry
		if len(s.approvals) == len(s.contract.Parties) {
			s.status = Accepted
			s.vouch()
		}
	}, nil
}

func (s *State) judgeReject(body *statement.Reject, party string) (func(int64), error) {
	if body.Digest != s.digest {
		return nil, Refuse(WrongDigest, "review the newest version and decide about that",
			"rejection of %s, version %d is %s", body.Digest, s.contract.Version, s.digest)
	}
	if s.status != Proposed {
		return nil, Refuse(WrongState, "withdraw the contract instead", "party %q cannot reject: the contract is %s", party, s.status)
	}
	return func(int64) { s.status, s.ended = Rejected, words(party, "rejected the contract", body.Reason) }, nil
}
