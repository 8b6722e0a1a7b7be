package prep

import (
	"context"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// Above is a place below whose prefix the pruned volume lies: a volume there may
// have been merged from it.
type Above struct {
	Store Store
	Place string // of the pruned volume, relative to the store
}

// refuseMerged refuses to remove data that a volume above counts on, and where
// it cannot be told whether one does: its places are sealed.
func (p *pruning) refuseMerged(ctx context.Context) error {
	if p.options.BreakMerged || len(p.data) == 0 {
		return nil
	}
	going := map[string]bool{}
	for _, name := range p.data {
		going[name] = true
	}
	for _, a := range p.options.Above {
		epochs, err := listEpochs(ctx, a.Store)
		for i := 0; err == nil && i < len(epochs); i++ {
			err = p.refuseMergedEpoch(ctx, a, epochs[i], going)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *pruning) refuseMergedEpoch(ctx context.Context, a Above, e epoch, going map[string]bool) error {
	m, dek, err := openEpoch(ctx, a.Store, p.options.Root, e, nil)
	if err != nil {
		return fault.Errorf(fault.KindOf(err), "prune with the key of the volume above it, or, if that was not merged from this one, with --break-merged",
			"whether epoch %d of %s was merged from %s cannot be told: %w", e.number, a.Store, p.store, err)
	}
	dek.Destroy()
	needed := 0
	for i := range uint32(m.Objects()) {
		o := m.Object(i)
		if o.Place > 0 && m.Places()[o.Place-1] == a.Place && going[format.ObjectName(o.ID)] {
			needed++
		}
	}
	if needed == 0 {
		return nil
	}
	return fault.Errorf(fault.Conflict, "merge again and prune the merged volume first; --break-merged removes them, and what was merged from them is lost",
		"epoch %d of %s was merged from %s and needs %d of the %d objects that would go: nothing was removed", e.number, a.Store, p.store, needed, len(going))
}
