package governance

import (
	"bytes"
	"reflect"
	"slices"

	"cloister/governance/statement"
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
	by, ok := s.keys[o.Signers[0].Key]
	if !ok {
		return judged{}, Refuse(NotAParty, "sign with the key of a party", "key %s is of no party of contract %q", o.Signers[0].Key, s.contract.ID)
	}
	if err := s.authenticate(o, by.key); err != nil {
		return judged{}, err
	}
	if err := s.checkCounter(o.Signers[0]); err != nil {
		return judged{}, err
	}
	if s.status == Withdrawn {
		return judged{}, Refuse(WrongState, "", "%s: the contract is withdrawn", o.Body.Type())
	}
	commit, err := s.judgeBody(o, by.party)
	return judged{o, commit}, err
}

func (s *State) judgeBody(o *statement.Opened, party string) (func(int64), error) {
	if amend, ok := o.Body.(*statement.Amend); ok {
		return s.judgeAmend(o, amend.Contract, party)
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
	case *statement.Provisioned:
		return s.judgeProvisioned()
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
	next, err := newVersion(body.Contract)
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
	return judged{o, func(int64) { s.install(next) }}, nil
}

// sameVersion holds statement and contract to one id and to the version that
// follows the newest.
func sameVersion(o *statement.Opened, contract statement.Contract, next uint64) error {
	if contract.ID != o.Contract {
		return Refuse(WrongContract, "", "the statement is about contract %q and carries %q", o.Contract, contract.ID)
	}
	if o.Version != next || contract.Version != next {
		return Refuse(StaleVersion, "look at the newest version and amend that",
			"%s carries version %d in a statement about version %d, the next is %d", o.Body.Type(), contract.Version, o.Version, next)
	}
	return nil
}

// version is a version of the contract, ready to be installed.
type version struct {
	contract statement.Contract
	digest   string
	keys     map[string]signer
}

func newVersion(contract statement.Contract) (version, error) {
	digest, err := contract.Digest()
	if err != nil {
		return version{}, Refuse(Malformed, "", "malformed contract: %w", err)
	}
	keys := map[string]signer{}
	for _, p := range contract.Parties {
		key, err := statement.ParsePublicKey(p.Key)
		if err != nil {
			return version{}, Refuse(Malformed, "", "malformed contract: %w", err)
		}
		keys[key.Fingerprint()] = signer{p.Name, key}
	}
	return version{contract, digest, keys}, nil
}

// install puts a version in the place of the one before. What was said to
// earlier versions lapses; runs and counters stay.
func (s *State) install(v version) {
	s.repin(v.contract)
	s.status, s.contract, s.digest, s.keys, s.ended = Proposed, v.contract, v.digest, v.keys, ""
	s.approvals = map[string]int64{}
	s.consents = map[consentKey]grant{}
	if s.runs == nil {
		s.runs = map[string]*run{}
	}
}

func (s *State) judgeAmend(o *statement.Opened, next statement.Contract, party string) (func(int64), error) {
	if err := sameVersion(o, next, s.contract.Version+1); err != nil {
		return nil, err
	}
	v, err := newVersion(next)
	if err != nil {
		return nil, err
	}
	if err := s.checkOwners(next, party); err != nil {
		return nil, err
	}
	return func(int64) { s.install(v) }, nil
}

// checkOwners lets a party change its own volumes only, and nobody's keys: to
// change a key takes more than one signature.
func (s *State) checkOwners(next statement.Contract, party string) error {
	for _, p := range s.contract.Parties {
		now, stays := next.Party(p.Name)
		if stays && !(bytes.Equal(p.Key, now.Key) && bytes.Equal(p.Recovery, now.Recovery)) {
			return Refuse(NotOwner, "", "an amendment cannot change the key of party %q", p.Name)
		}
		if stays && p.Name != party && !bytes.Equal(p.Recipient, now.Recipient) {
			return Refuse(NotOwner, "", "party %q cannot change the recipient key of party %q", party, p.Name)
		}
	}
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
		return nil, Refuse(WrongState, "", "party %q cannot approve: the contract is %s, approved by %v", party, s.status, s.Approved())
	}
	return func(entry int64) {
		s.approvals[party] = entry
		if len(s.approvals) == len(s.contract.Parties) {
			s.status = Accepted
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

func (s *State) judgeProvisioned() (func(int64), error) {
	if s.status != Accepted {
		return nil, Refuse(WrongState, "wait until all parties have approved", "the contract is %s, resources are provisioned for an accepted one", s.status)
	}
	return func(int64) {}, nil
}
