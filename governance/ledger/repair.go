package ledger

import (
	"context"

	"cloister/governance/tiles"
	"cloister/internal/fault"
)

// repair deals with what an appender left after the checkpoint that was killed,
// or could not have its checkpoint cosigned: entries that are in the tiles become
// part of the log, as their writer was about to say. What did not get that far
// Tessera does not count, nobody was told of it, and the next append overwrites
// it. One commit leaves at most so many entries, all acceptable to the fold, so
// anything else was not left by a kill and is not touched.
func (l *Ledger) repair(ctx context.Context) error {
	at := l.view.Tree().Size()
	size, err := l.store.size(ctx)
	if err != nil || size == at {
		return err
	}
	if size < at || size-at > maxTogether {
		return fault.Errorf(fault.Refused, "restore tiles and checkpoint from one backup, or see who wrote into them",
			"the tiles hold %d entries, the last checkpoint is of %d", size, at)
	}
	entries, err := l.after(at, size)
	if err != nil {
		return err
	}
	state := l.view.State().Fork()
	for i, entry := range entries {
		if _, err := state.Apply(at+int64(i), entry); err != nil {
			return fault.Errorf(fault.Refused, "restore tiles and checkpoint from one backup, or see who wrote into them",
				"entry %d, after the last checkpoint, was not written by a ledger: %w", at+int64(i), err)
		}
	}
	signed, err := l.publish(ctx, entries)
	if err != nil {
		return err
	}
	return l.followTo(ctx, signed)
}

// after reads entries that lie after the checkpoint.
func (l *Ledger) after(from, to int64) (entries [][]byte, err error) {
	for n := from / tiles.Width; n*tiles.Width < to; n++ {
		t, _ := tiles.At(tiles.Bundle, n, to)
		raw, err := l.dir.Tile(t, to)
		if err != nil {
			return nil, err
		}
		bundle, err := tiles.Split(raw)
		if err != nil {
			return nil, err
		}
		entries = append(entries, bundle[max(from-n*tiles.Width, 0):]...)
	}
	return entries, nil
}
