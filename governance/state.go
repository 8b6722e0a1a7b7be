package governance

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
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
	consents      map[consentKey]*grant          // newest version only
	counters      map[string]uint64              // by fingerprint: parties' keys; over the whole log
	provision     map[string]Provision           // by volume; newest version only
	specification []byte                         // canonical, of the newest version; nil where its proposer left it out
	runs          table[runID, *run]             // a run is changed by way of ownRun
	auditKeys     table[keyID, runID]            // whose a run's audit key is
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

// keyID is the SHA-256 in a key's fingerprint.
type keyID [sha256.Size]byte

func parseKeyID(fingerprint string) (id keyID) {
	parseHex(id[:], strings.TrimPrefix(fingerprint, "sha256:"))
	return id
}

// parseHex leaves what is not of that form zero, which is nobody's.
func parseHex(id []byte, text string) {
	if len(text) != 2*len(id) {
		return
	}
	if _, err := hex.Decode(id, []byte(text)); err != nil {
		clear(id)
	}
}

type consentKey struct{ party, scope string }

type grant struct {
	entry     int64
	withdrawn bool
	expires   time.Time          // zero: no end
	limit     uint64             // 0: any number
	runs      table[runID, bool] // that began under it, where their number is limited
}

// Fork returns a State that goes on from s at once, however long the log is. What
// it is told s does not see; s itself must not change while the fork is in use.
func (s *State) Fork() *State {
	c := *s
	c.keys, c.approvals, c.counters = maps.Clone(s.keys), maps.Clone(s.approvals), maps.Clone(s.counters)
	c.heads, c.pinned, c.consents = maps.Clone(s.heads), maps.Clone(s.pinned), maps.Clone(s.consents)
	c.retired, c.vouchers, c.provision = maps.Clone(s.retired), maps.Clone(s.vouchers), maps.Clone(s.provision)
	c.runs, c.auditKeys = s.runs.fork(), s.auditKeys.fork()
	for k, g := range s.consents {
		forked := *g
		forked.runs = g.runs.fork()
		c.consents[k] = &forked
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
	_, party := s.keys[fingerprint]
	return party || s.auditKeys.has(parseKeyID(fingerprint))
}

// counter returns the counter of a key's newest statement, 0 where it made none.
func (s *State) counter(fingerprint string) uint64 {
	said := s.counters[fingerprint]
	if id, ok := s.auditKeys.get(parseKeyID(fingerprint)); ok {
		r, _ := s.runs.get(id)
		said = max(said, r.sequence)
	}
	return said
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
	next := s.counter(fingerprint) + 1
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
