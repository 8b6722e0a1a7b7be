package governance

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"cloister/internal/fault"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// Witnesses says whose cosignatures a checkpoint needs before it counts: that of
// a specification. Without keys it needs none, and whoever owns the ledger is
// believed about there being nothing newer.
type Witnesses struct {
	Keys      []string // verifier keys of C2SP tlog-cosignature, Ed25519: NAME+HASH+BASE64
	Threshold uint32   // how many of them must; all when 0
}

// Needed returns how many must cosign.
func (w Witnesses) Needed() int {
	if w.Threshold == 0 {
		return len(w.Keys)
	}
	return int(w.Threshold)
}

// maxAhead is how far a cosignature's time may be ahead of the clock here: the
// skew that a ledger allows a statement. A host that sets its guest's clock back
// further finds no cosignature counted.
const maxAhead = 10 * time.Minute

// Cosigned refuses a signed checkpoint that fewer than the needed witnesses have
// cosigned. It returns the latest time that one of them vouches for: the floor
// of time at this checkpoint, zero where no witness is needed. A witness that
// lies ahead can end a run, and none that lies back can keep one going. That the
// checkpoint is the ledger's is for OpenCheckpoint to see.
func (w Witnesses) Cosigned(signed []byte) (time.Time, error) {
	verifiers, err := w.verifiers()
	if err != nil || len(verifiers) == 0 {
		return time.Time{}, err
	}
	var floor time.Time
	var missing []string
	for _, v := range verifiers {
		at, err := cosigned(signed, v)
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s: %v", v.Name(), err))
			continue
		}
		floor = later(floor, at)
	}
	if got := len(verifiers) - len(missing); got < w.Needed() {
		return time.Time{}, fault.Errorf(fault.Refused, "ask the parties whose witnesses do not cosign; a ledger that shows somebody else another record gets no cosignature for this one",
			"the ledger's checkpoint has the cosignatures of %d witnesses, %d are needed (%s)", got, w.Needed(), strings.Join(missing, "; "))
	}
	return floor, nil
}

// verifiers refuses two names of one key, which would count twice.
func (w Witnesses) verifiers() ([]note.Verifier, error) {
	const hint = "it is the line that cloister witness init prints"
	if w.Needed() > len(w.Keys) {
		return nil, fault.Errorf(fault.Usage, "name more witnesses, or fewer that must", "%d of %d witnesses cannot cosign", w.Needed(), len(w.Keys))
	}
	var list []note.Verifier
	named := map[string]bool{}
	for _, key := range w.Keys {
		v, err := ParseWitnessKey(key)
		if err != nil {
			return nil, fault.Errorf(fault.Usage, hint, "witness key %.120q: %w", key, err)
		}
		material := strings.SplitN(key, "+", 3)[2]
		if named[material] {
			return nil, fault.Errorf(fault.Usage, hint, "witness %s has the key of another witness", v.Name())
		}
		named[material] = true
		list = append(list, v)
	}
	return list, nil
}

// algCosignature is the type of a verifier key for timestamped Ed25519
// cosignatures (C2SP signed-note, "Signature types").
const algCosignature = 0x04

// ParseWitnessKey parses a witness's verifier key. The library also takes the
// key of a ledger for one; it signs other bytes, so it is refused.
func ParseWitnessKey(key string) (note.Verifier, error) {
	parts := strings.SplitN(key, "+", 3)
	raw, err := base64.StdEncoding.Strict().DecodeString(parts[len(parts)-1])
	if len(parts) != 3 || err != nil || len(raw) == 0 || raw[0] != algCosignature {
		return nil, fmt.Errorf("not the key of a witness: its type must be %d, timestamped Ed25519 cosignatures", algCosignature)
	}
	v, err := fnote.NewVerifierForCosignatureV1(key)
	if err != nil {
		return nil, err
	}
	if hash := fmt.Sprintf("%08x", v.KeyHash()); hash != parts[1] {
		return nil, fmt.Errorf("its hash is %s, of this key it is %s", parts[1], hash)
	}
	return v, nil
}

// cosigned returns the time of one witness's cosignature.
func cosigned(signed []byte, v note.Verifier) (time.Time, error) {
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return time.Time{}, fmt.Errorf("no valid cosignature: %w", err)
	}
	at, err := fnote.CoSigV1Timestamp(n.Sigs[0])
	if err != nil {
		return time.Time{}, err
	}
	if ahead := time.Until(at); ahead > maxAhead {
		return time.Time{}, fmt.Errorf("it cosigned at %s, %s ahead of this machine's clock", at.UTC().Format(time.RFC3339), ahead.Round(time.Second))
	}
	return at, nil
}
