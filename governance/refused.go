package governance

import (
	"encoding/json"
	"time"

	"cloister/governance/statement"
	"cloister/policy/spec"
)

// Refused is a statement that a ledger did not append, as it keeps it where the
// contract's specification says so. Whose statement it is its signature proves;
// that it was refused, when and why, is the ledger's word.
type Refused struct {
	Time      time.Time       `json:"time"` // by the ledger's clock
	Reason    Reason          `json:"reason"`
	Detail    string          `json:"detail"`
	Statement json.RawMessage `json:"statement"`
}

// KeepsRefused says whether the newest version's specification has refused
// statements kept.
func (s *State) KeepsRefused() bool {
	// The parties approved its digest; what else a newer Cloister says in it is no
	// matter here.
	var said spec.Specification
	return json.Unmarshal(s.specification, &said) == nil && said.Governance.Refused == spec.RefusedKept
}

// Signed says whether an entry is signed by a party of the newest version or by
// the audit key of a run that began, whether or not it may be appended.
func (s *State) Signed(entry []byte) bool {
	o, err := statement.Open(entry)
	if err != nil {
		return false
	}
	for i, id := range o.Signers {
		if key, ok := s.keysFor(o.Body, nil)(id.Key); ok && o.Verify(i, key) == nil {
			return true
		}
	}
	return false
}
