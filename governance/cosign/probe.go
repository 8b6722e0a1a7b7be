package cosign

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"cloister/governance"
	"cloister/internal/fault"
)

// Probe asks a witness, KEY@URL, whether it stands behind a ledger's checkpoint, and
// returns in words what it says. It is asked to cosign once more what it has cosigned,
// with nothing that would lead it further, so it ends where it was.
func Probe(ctx context.Context, witness string, signed []byte) (string, error) {
	a, _, err := parseWitness(witness)
	if err != nil {
		return "", err
	}
	size, err := sizeOf(signed)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, Deadline)
	defer cancel()
	line, stands, err := a.ask(ctx, http.DefaultClient, signed, size, size, nil)
	switch {
	case err != nil:
		return "", fault.Errorf(fault.Unavailable, "ask its party to start it, or to let it cosign again: cloister witness status says which", "%s: %w", a.url, err)
	case line != nil:
		return "it cosigns the newest checkpoint", nil
	case stands > size:
		return "", fault.Errorf(fault.Refused, "keep the ledger's checkpoint: the ledger shows less than this witness has seen, or was restored from a backup",
			"it has cosigned a log of %d entries, the ledger shows %d", stands, size)
	case stands == size:
		return "", fault.Errorf(fault.Refused, "keep the ledger's checkpoint and ask the witness's party for theirs: the ledger shows two logs", "it has cosigned another log of %d entries", size)
	default:
		return "", fault.Errorf(fault.Unavailable, "it is offered the rest with the next append; if it stays behind, see that the ledger's --witness names it", "it is behind: it has cosigned %d of %d entries", stands, size)
	}
}

// Standing is what a doctor tries of one witness.
type Standing struct {
	Name string // of the witness
	Ask  func(context.Context) (string, error)
}

// Ask returns what to try of a specification's witnesses, with the addresses that it
// has of them, each KEY@URL, about the newest checkpoint of log.
func Ask(keys, addresses []string, log governance.Source) (all []Standing) {
	for _, key := range keys {
		name, _, _ := strings.Cut(key, "+")
		at := slices.IndexFunc(addresses, func(a string) bool { return strings.HasPrefix(a, key+"@") })
		all = append(all, Standing{name, func(ctx context.Context) (string, error) {
			if at < 0 {
				return "the specification has no address of it, so it is not asked", nil
			}
			signed, err := log.Checkpoint(ctx)
			if err != nil {
				return "", err
			}
			return Probe(ctx, addresses[at], signed)
		}})
	}
	return all
}
