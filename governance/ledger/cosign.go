package ledger

import (
	"context"
	"fmt"
)

// Recosign has the newest checkpoint cosigned: that of a new log, or of one that
// had other witnesses, otherwise says nothing until the next append to who wants
// cosignatures, and who wants them could not be the first to speak.
func (l *Ledger) Recosign(ctx context.Context) error {
	release, err := l.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	unlock, err := l.lockFiles(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.follow(ctx); err != nil {
		return err
	}
	if err := l.repair(ctx); err != nil {
		return fmt.Errorf("repairing the log's end: %w", err)
	}
	signed, err := l.publish(ctx, nil)
	if err != nil {
		return err
	}
	return l.followTo(ctx, signed)
}
