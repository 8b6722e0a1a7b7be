package ledger

import (
	"context"

	"cloister/governance"
	"cloister/governance/statement"
)

// Agreed returns the newest version of the contract, and where it stands.
func (l *Ledger) Agreed(ctx context.Context) (governance.Agreed, error) {
	release, err := l.take(ctx)
	if err != nil {
		return governance.Agreed{}, err
	}
	defer release()
	err = l.follow(ctx)
	return l.view.State().Agreed(), err
}

// Contract implements governance.RunLog.
func (l *Ledger) Contract(ctx context.Context) (string, error) {
	agreed, err := l.Agreed(ctx)
	return agreed.Digest, err
}

// Introduce implements governance.RunLog: who holds a Ledger reads it.
func (l *Ledger) Introduce(context.Context, *statement.RunBegin, statement.Signer) error { return nil }
