package governance

import (
	"errors"

	"cloister/internal/fault"
)

// Reason says in a word why a statement is refused, for programs to branch on.
type Reason string

// The reasons.
const (
	Malformed      Reason = "malformed"            // not a statement in its canonical form
	UnknownType    Reason = "unknown-type"         // of a newer Cloister
	WrongSignature Reason = "wrong-signature"      // not by the key it names
	NotAParty      Reason = "not-a-party"          // by a key that has no say here
	RetiredKey     Reason = "retired-key"          // by a key that its party replaced
	HalfSigned     Reason = "half-signed"          // a rotation without all the signatures that it takes
	WrongContract  Reason = "wrong-contract"       // about another contract
	StaleVersion   Reason = "stale-version"        // about a version that is not the newest
	Replayed       Reason = "replayed"             // the signer's counter did not rise
	WrongDigest    Reason = "wrong-digest"         // approval of other bytes
	WrongState     Reason = "wrong-state"          // not possible at this point
	NotOwner       Reason = "not-owner"            // about what is another party's
	UnknownVolume  Reason = "unknown-volume"       // about a volume that the contract does not have
	Unapproved     Reason = "unapproved-container" // evidence of what the contract did not agree on
	UnknownRun     Reason = "unknown-run"          // by a run that did not begin
	BrokenChain    Reason = "broken-chain"         // a gap in a run's sequence, or another record before it
	NoConsent      Reason = "no-consent"           // a step without consent
	ClockFarOff    Reason = "clock-far-off"        // the signer's clock and the ledger's differ too much
)

// refusal is the cause inside an error that refuses a statement.
type refusal struct {
	reason Reason
	error
}

func (r *refusal) Unwrap() error { return r.error }

// Refuse makes an error that refuses a statement.
func Refuse(reason Reason, hint, format string, args ...any) error {
	kind := fault.Refused
	if reason == StaleVersion || reason == Replayed || reason == WrongState {
		kind = fault.Conflict
	}
	return &refusal{reason, fault.Errorf(kind, hint, format, args...)}
}

// ReasonOf returns why err refuses a statement, or "" where it does not.
func ReasonOf(err error) Reason {
	var r *refusal
	if errors.As(err, &r) {
		return r.reason
	}
	return ""
}
