package governance

import (
	"maps"
	"slices"
	"time"

	"cloister/governance/statement"
)

// Status is where a contract stands.
type Status string

// The states of a contract.
const (
	Draft     Status = "draft"     // nothing is proposed
	Proposed  Status = "proposed"  // some parties have yet to approve the newest version
	Accepted  Status = "accepted"  // all parties approved the newest version
	Rejected  Status = "rejected"  // one party vetoed the newest version; an amendment makes another
	Withdrawn Status = "withdrawn" // ended for good
)

// State is what a log of statements comes to. The zero State is that of an
// empty log. It is not safe for concurrent use.
type State struct {
	status        Status
	contract      statement.Contract
	digest        string
	keys          map[string]signer              // by fingerprint; the newest version's parties
	retired       map[string]statement.PublicKey // by fingerprint: the key in its place; over the whole log
	vouchers      map[string]bool                // by fingerprint: keys whose parties may vouch for another's rotation
	approvals     map[string]int64               // party → entry
	consents      map[consentKey]grant           // newest version only
	counters      map[string]uint64              // by fingerprint; over the whole log
	provision     map[string]Provision           // by volume; newest version only
	specification []byte                         // canonical, of the newest version; nil where its proposer left it out
	runs          map[string]*run                // by run id
	heads         map[string]Head                // of output volumes, by name
	pinned        map[string]uint64              // sink → version in which its owner pinned it last
	newest        time.Time                      // the latest time any accepted statement names
	unknown       int                            // entries that only a newer Cloister understands
	ended         string                         // who withdrew or rejected, in words

	// Evidence judges the evidence of a run that begins under a contract version,
	// as in Auditor. Nil leaves it unjudged: whoever relies on a run has one.
	Evidence func(*statement.RunBegin, statement.Contract) error
}

type signer struct {
	party string
	key   statement.PublicKey
}

type consentKey struct{ party, scope string }

type grant struct {
	entry     int64
	withdrawn bool
	expires   time.Time // zero: no end
	limit     uint64    // 0: any number
	runs      map[string]bool
}

type run struct {
	key      statement.PublicKey
	version  uint64
	replica  uint64
	evidence string // digest
	sequence uint64
	previous string // digest of the newest entry
	begun    int64
	asked    map[string]Answer     // by scope: to the newest check
	started  string                // the application that runs, "" for none
	end      *statement.Completion // nil until there is one
}

// Answer is the log's answer to a run's check of consent.
type Answer struct {
	Entry   int64  `json:"entry"`
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason,omitempty"` // why not, in words
	nonce   string
}

// Clone returns a State that shares nothing with s that a statement changes.
func (s *State) Clone() *State {
	c := *s
	c.keys, c.approvals, c.counters = maps.Clone(s.keys), maps.Clone(s.approvals), maps.Clone(s.counters)
	c.heads, c.pinned, c.consents, c.runs = maps.Clone(s.heads), maps.Clone(s.pinned), maps.Clone(s.consents), maps.Clone(s.runs)
	c.retired, c.vouchers, c.provision = maps.Clone(s.retired), maps.Clone(s.vouchers), maps.Clone(s.provision)
	for k, g := range c.consents {
		g.runs = maps.Clone(g.runs)
		c.consents[k] = g
	}
	for id, r := range c.runs {
		own := *r
		own.asked = maps.Clone(r.asked)
		c.runs[id] = &own
	}
	return &c
}

// Status returns where the contract stands.
func (s *State) Status() Status {
	if s.status == "" {
		return Draft
	}
	return s.status
}

// Contract returns the newest version and its digest; zero and "" in a Draft.
func (s *State) Contract() (statement.Contract, string) { return s.contract, s.digest }

// Specification returns the canonical specification of the newest version, whose
// digest is the contract's; nil where its proposer left it out.
func (s *State) Specification() []byte { return s.specification }

// Ended says in words who rejected or withdrew, and why; "" where nobody did.
func (s *State) Ended() string { return s.ended }

// Approved returns the names of the parties that approved the newest version.
func (s *State) Approved() []string { return slices.Sorted(maps.Keys(s.approvals)) }

// Unknown returns how many entries are of types this build does not know. State
// is not the whole truth unless it is 0.
func (s *State) Unknown() int { return s.unknown }

// Party returns the name under which the newest version lists a key.
func (s *State) Party(fingerprint string) (string, bool) {
	k, ok := s.keys[fingerprint]
	return k.party, ok
}

// Knows says whether a key is of a party of the newest version, or is the audit
// key of a run.
func (s *State) Knows(fingerprint string) bool {
	if _, party := s.keys[fingerprint]; party {
		return true
	}
	if _, spoke := s.counters[fingerprint]; !spoke {
		return false
	}
	for _, r := range s.runs {
		if r.key.Fingerprint() == fingerprint {
			return true
		}
	}
	return false
}

// Key returns the key that a party of the newest version signs with now.
func (s *State) Key(party string) (statement.PublicKey, bool) {
	for _, by := range s.keys {
		if by.party == party {
			return by.key, true
		}
	}
	return statement.PublicKey{}, false
}

// NextCounter returns the counter for a key's next statement. It is the time in
// milliseconds where that is higher than the last one: so it rises even when a
// ledger hides the key's newest statement.
func (s *State) NextCounter(fingerprint string, now time.Time) uint64 {
	next := s.counters[fingerprint] + 1
	if ms := now.UnixMilli(); ms > 0 && uint64(ms) > next {
		return uint64(ms)
	}
	return next
}

// Consent says whether a party's consent to the newest version holds for
// another run beginning now, and why not.
func (s *State) Consent(party, scope string, now time.Time) (bool, string) {
	return s.consent(party, scope, "", now)
}

// RunStatus is what the log knows of a run.
type RunStatus struct {
	ID        string `json:"id"`
	Version   uint64 `json:"version"`
	Replica   uint64 `json:"replica,omitempty"` // which of the version's replicas it is, from 0
	Records   uint64 `json:"records"`
	Begun     int64  `json:"begun"`             // entry
	Completed bool   `json:"completed"`         // it has ended, and said how
	Complete  bool   `json:"complete"`          // it did all it was to do, and its outputs are whole
	Detail    string `json:"detail,omitempty"`  // why not
	Running   string `json:"running,omitempty"` // the application that was started and has not ended
}

func (r *run) status(id string) RunStatus {
	status := RunStatus{ID: id, Version: r.version, Replica: r.replica, Records: r.sequence, Begun: r.begun, Running: r.started}
	if r.end != nil {
		status.Completed, status.Complete, status.Detail = true, r.end.Complete, r.end.Detail
	}
	return status
}

// Runs returns the runs in the order in which they began.
func (s *State) Runs() []RunStatus {
	var list []RunStatus
	for id, r := range s.runs {
		list = append(list, r.status(id))
	}
	slices.SortFunc(list, func(a, b RunStatus) int { return int(a.Begun - b.Begun) })
	return list
}
