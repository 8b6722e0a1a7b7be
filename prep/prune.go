package prep

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// PruneOptions say what Prune keeps.
type PruneOptions struct {
	Root *format.RootSecret
	// KeepLast is how many of the newest epochs are kept, at least one.
	KeepLast int
	// Keep are further states to keep. One that the volume does not hold is
	// refused: the caller means another volume.
	Keep []format.Reference
	// NoWriters is the caller's word that nothing writes to the volume now: then
	// what interrupted runs and uploads have left goes too.
	NoWriters bool
	// Above are the places above the volume. What a volume there was merged from
	// is not removed unless BreakMerged is set.
	Above       []Above
	BreakMerged bool
	DryRun      bool // remove nothing, and say what would go
}

// Pruned is what Prune removed, or would. The JSON names are part of the
// command's interface.
type Pruned struct {
	Volume  string   `json:"volume"`
	Kept    []uint64 `json:"kept_epochs"`
	Epochs  []uint64 `json:"removed_epochs"`
	Objects int      `json:"removed_objects"` // of data
	Bytes   int64    `json:"removed_bytes"`
	// Left are data objects that are no epoch's, and stayed as they may be a
	// writer's at work.
	Left int `json:"left_objects"`
}

// Prune removes the epochs that are not kept, and the objects that only they
// needed. What a reader of a kept epoch could want stays. So does what a writer
// at work has put or counts on: an object goes only if a removed epoch knew it,
// or the pending record of an epoch that somebody else has made since; a writer
// builds on the newest epoch, which is always kept, and on pending records of
// the next. An object that an epoch of a volume above this one was merged from
// is a Conflict, and nothing goes. Manifests go first, so that nobody opens an epoch whose objects are
// going.
func Prune(ctx context.Context, s Store, o PruneOptions) (*Pruned, error) {
	if o.KeepLast < 1 && len(o.Keep) == 0 {
		return nil, fault.Errorf(fault.Usage, "say how many of the newest epochs to keep, or which", "nothing to keep was named")
	}
	p := &pruning{store: s, options: o, needed: map[string]bool{}, known: map[string]bool{}}
	if err := p.plan(ctx); err != nil {
		return nil, err
	}
	if o.DryRun {
		return &p.result, nil
	}
	for _, names := range [][]string{p.manifests, p.data, p.records} {
		if err := p.removeAll(ctx, names); err != nil {
			return nil, err
		}
	}
	return &p.result, nil
}

type pruning struct {
	store   Store
	options PruneOptions
	needed  map[string]bool // objects of kept epochs, and of the one being made
	known   map[string]bool // objects of those that go

	manifests, data, records []string // to remove, in this order
	result                   Pruned
}

func (p *pruning) plan(ctx context.Context) error {
	epochs, err := listEpochs(ctx, p.store)
	if err != nil {
		return err
	}
	if len(epochs) == 0 {
		return noVolume(p.store)
	}
	newest := epochs[len(epochs)-1]
	if err := checkNoJournal(ctx, p.store, newest.number); err != nil {
		return err
	}
	if err := p.planEpochs(ctx, epochs); err != nil {
		return err
	}
	if err := p.planRecords(ctx, newest.number); err != nil {
		return err
	}
	if err := p.planObjects(ctx); err != nil {
		return err
	}
	return p.refuseMerged(ctx)
}

// planEpochs opens every manifest. One that does not open keeps anything from
// being removed: what it needs cannot be known.
func (p *pruning) planEpochs(ctx context.Context, epochs []epoch) error {
	keep := slices.Clone(p.options.Keep)
	p.result.Kept, p.result.Epochs = []uint64{}, []uint64{}
	for i, e := range epochs {
		m, dek, err := openEpoch(ctx, p.store, p.options.Root, e, nil)
		if err != nil {
			return err
		}
		dek.Destroy()
		p.result.Volume = m.Reference().Volume.String()
		named := slices.Contains(keep, m.Reference())
		keep = slices.DeleteFunc(keep, func(r format.Reference) bool { return r == m.Reference() })
		if i >= len(epochs)-max(p.options.KeepLast, 1) || named {
			p.result.Kept = append(p.result.Kept, e.number)
			take(p.needed, m)
			continue
		}
		p.result.Epochs = append(p.result.Epochs, e.number)
		p.manifests = append(p.manifests, format.ManifestName(e.number))
		take(p.known, m)
	}
	if len(keep) > 0 {
		return refused(p.store, fmt.Errorf("%w: it does not hold %s, which is to be kept", format.ErrReference, keep[0]))
	}
	return nil
}

func take(names map[string]bool, m *format.Manifest) {
	for i := range uint32(m.Objects()) {
		names[m.ObjectName(m.Object(i))] = true
	}
}

// planRecords tells the pending records of the next epoch, which a writer may
// be at work on or go on with, from those of epochs that are there.
func (p *pruning) planRecords(ctx context.Context, newest uint64) error {
	records, err := openPending(ctx, p.store, p.options.Root, func(record format.Preamble) bool { return record.Volume.String() == p.result.Volume })
	if err != nil {
		return err
	}
	for _, record := range records {
		if record.Preamble().Epoch > newest && !p.options.NoWriters {
			take(p.needed, record.Manifest)
			continue
		}
		take(p.known, record.Manifest)
		p.records = append(p.records, record.name)
	}
	return nil
}

func (p *pruning) planObjects(ctx context.Context) error {
	removed := map[string]bool{}
	for _, e := range p.result.Epochs {
		removed[fmt.Sprintf("%s%016x", format.SignaturePrefix, e)] = true
	}
	for e, err := range p.store.List(ctx, "") {
		switch {
		case err != nil:
			return err
		case removed[e.Name]:
			p.records = append(p.records, e.Name)
		case !strings.HasPrefix(e.Name, format.DataPrefix) || p.needed[e.Name]:
		case p.known[e.Name] || p.options.NoWriters:
			p.data = append(p.data, e.Name)
			p.result.Objects++
			p.result.Bytes += e.Size
		default:
			p.result.Left++
		}
	}
	return nil
}

func (p *pruning) removeAll(ctx context.Context, names []string) error {
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(deletions)
	for _, name := range names {
		group.Go(func() error { return p.store.Delete(running, name) })
	}
	return group.Wait()
}

// deletions is how many objects are being removed at a time: each is a request
// of no size.
const deletions = 16
