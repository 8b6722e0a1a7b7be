package governance

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"cloister/governance/statement"
	"cloister/internal/fault"
)

// View is a log as far as its reader has verified it. Advance is the only way
// on: it never goes back, and a log that once contradicted a checkpoint is
// refused from then on. A View is not safe for concurrent use.
type View struct {
	key       string
	witnesses Witnesses
	tree      Frontier
	state     State
	verified  Checkpoint
	signed    []byte
	time      time.Time
	broken    error

	remembered Checkpoint // that the log must go on from; zero for none
}

// Seen is one entry as Advance meets it.
type Seen struct {
	Index     int64
	Entry     []byte
	Statement *statement.Statement // nil where Refused is set
	Refused   error                // why the fold passes the entry over
}

// NewView returns a View of nothing yet, of the log whose checkpoints are
// signed with key, a verifier key of a signed note. It believes the ledger about
// there being nothing newer.
func NewView(key string) *View { return NewCosignedView(key, Witnesses{}) }

// NewCosignedView is NewView of a log whose checkpoints count only with the
// cosignatures of witnesses.
func NewCosignedView(key string, w Witnesses) *View { return &View{key: key, witnesses: w} }

// Remember has the view refuse a log that does not go on from a checkpoint that the
// ledger signed before. It is called before the first Advance.
func (v *View) Remember(signed []byte) (err error) {
	if v.remembered, err = OpenCheckpoint(signed, v.key); err != nil {
		return fmt.Errorf("the remembered head: %w", err)
	}
	return nil
}

// State returns the fold of the verified entries. The caller only reads it.
func (v *View) State() *State { return &v.state }

// Checkpoint returns the newest verified checkpoint and its signed form.
func (v *View) Checkpoint() (Checkpoint, []byte) { return v.verified, v.signed }

// Time returns the latest time that a witness vouched for: it has passed,
// whatever the clock here says. It is zero where no witness is demanded.
func (v *View) Time() time.Time { return v.time }

// Tree returns the verified entries' tree. The caller only reads it.
func (v *View) Tree() *Frontier { return &v.tree }

// AdvanceToNewest is Advance to the checkpoint that the log shows now.
func (v *View) AdvanceToNewest(ctx context.Context, log Source, visit func(Seen)) error {
	signed, err := log.Checkpoint(ctx)
	if err != nil {
		return fmt.Errorf("asking for the newest checkpoint: %w", err)
	}
	return v.Advance(ctx, log, signed, visit)
}

// Advance verifies a signed checkpoint and every entry up to it, folds them and
// hands each to visit, which may be nil. That the tree grown here from the old
// entries and the new ones has the checkpoint's root proves both inclusion and
// consistency: no other sequence of entries has that root.
func (v *View) Advance(ctx context.Context, log Source, signed []byte, visit func(Seen)) error {
	if v.broken != nil {
		return v.broken
	}
	next, err := OpenCheckpoint(signed, v.key)
	if err != nil {
		return err
	}
	if next.Size < v.tree.Size() {
		return v.breaks("the ledger shows a log of %d entries after one of %d: it was rolled back", next.Size, v.tree.Size())
	}
	if next.Size < v.remembered.Size {
		return v.breaks("the ledger shows a log of %d entries, there were %d before: it was rolled back", next.Size, v.remembered.Size)
	}
	at, err := v.witnesses.Cosigned(signed)
	if err != nil {
		return err
	}
	v.time = later(v.time, at)
	// A failed read leaves the view between two checkpoints, from where the next
	// Advance goes on.
	if err := v.readTo(ctx, log, next.Size, visit); err != nil {
		return err
	}
	if v.tree.Root() != next.Root {
		return v.breaks("the ledger's %d entries do not have the root of its checkpoint: an entry was changed, moved, dropped or put in", next.Size)
	}
	v.verified, v.signed = next, append([]byte(nil), signed...)
	return nil
}

func (v *View) breaks(format string, args ...any) error {
	v.broken = fault.Errorf(fault.Refused, "keep the ledger's files and its checkpoint: they are the evidence", format, args...)
	return v.broken
}

func (v *View) readTo(ctx context.Context, log Source, to int64, visit func(Seen)) error {
	from := v.tree.Size()
	batches, stop := readAhead(ctx, log, from, to)
	defer stop()
	for b := range batches {
		if b.err != nil {
			return fmt.Errorf("reading entries %d to %d: %w", from, to, b.err)
		}
		if len(b.entries) == 0 || int64(len(b.entries)) > to-from {
			return v.breaks("the ledger returned %d entries of %d asked for", len(b.entries), to-from)
		}
		if v.fold(from, b, visit); v.broken != nil {
			return v.broken
		}
		from += int64(len(b.entries))
	}
	if from < to {
		return ctx.Err()
	}
	return nil
}

func (v *View) fold(from int64, b batch, visit func(Seen)) {
	verifyAhead(b.opened, &v.state)
	for i, e := range b.opened {
		seen := Seen{Index: from + int64(i), Entry: b.entries[i]}
		seen.Statement, seen.Refused = v.state.apply(seen.Index, e)
		v.tree.addLeaf(e.leaf)
		if v.tree.Size() == v.remembered.Size && v.tree.Root() != v.remembered.Root {
			v.breaks("the ledger's first %d entries are not the ones that were there before", v.remembered.Size)
			return
		}
		if visit != nil {
			visit(seen)
		}
	}
}

// named is the checkpoint as run statements name it.
func (c Checkpoint) named() statement.Checkpoint {
	return statement.Checkpoint{Root: base64.StdEncoding.EncodeToString(c.Root[:]), Size: uint64(c.Size)}
}
