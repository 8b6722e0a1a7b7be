package ledger

import (
	"context"
	"fmt"

	"cloister/governance"
)

// Probe verifies the log in dir with the key, writes nothing, and returns what
// it comes to, in words.
func Probe(ctx context.Context, dir, key string) (string, error) {
	view := governance.NewView(key)
	if err := view.AdvanceToNewest(ctx, Read(dir), nil); err != nil {
		return "", err
	}
	contract, digest := view.State().Contract()
	if digest == "" {
		return "it is in order, and nothing has been proposed yet", nil
	}
	return fmt.Sprintf("contract %s version %d is %s, %s", contract.ID, contract.Version, view.State().Status(), digest), nil
}
