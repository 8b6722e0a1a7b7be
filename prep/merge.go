package prep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// MergeOptions say how volumes are merged.
type MergeOptions struct {
	Root *format.RootSecret // of the merged volume, and of sources
	// Identity, if set, opens the sources that Root does not.
	Identity Key
	// References are of sources, each the only state that is accepted of the
	// volume it names; a source that none names is taken as its newest epoch.
	References []format.Reference
	Recipients []*format.Recipient // who else can open what is merged; nil: as before
}

// Merged is what Merge made. The JSON names are part of the command's interface.
type Merged struct {
	Reference     format.Reference   `json:"reference"`
	Volume        string             `json:"volume"`
	Epoch         uint64             `json:"epoch"`
	Sources       []format.Reference `json:"sources"`
	Files         uint64             `json:"files"` // inodes: a hard link counts once
	Directories   uint64             `json:"directories"`
	Others        uint64             `json:"others"`
	Bytes         uint64             `json:"bytes"` // of all files, holes included
	Objects       int                `json:"objects"`
	Keys          int                `json:"keys"`
	ManifestBytes int64              `json:"manifest_bytes"` // sealed
}

const mergeName = "cloister prep merge"

// Merge makes the next epoch of the volume at into, the first if there is none,
// of what the volumes at places, which are prefixes below it, hold together. No
// data moves: the manifest's objects are those of the sources, each under its
// own key, so the sources must stay as they are. Directories of one name become
// one, if their permissions, owners and extended attributes are the same; any
// other name that two sources have is a clash, and all clashes are in the error,
// of kind Conflict. The root is as the first source's. An epoch that was not
// merged is not replaced, since what it holds would be gone from the next.
func Merge(ctx context.Context, into Store, places []string, o MergeOptions) (*Merged, error) {
	base, err := mergeBase(ctx, into, o.Root)
	if err != nil {
		return nil, err
	}
	defer base.dek.Destroy()
	if err := base.sealFor(o.Recipients); err != nil {
		return nil, err
	}
	sources, err := openSources(ctx, into, places, o)
	if err != nil {
		return nil, err
	}
	m := newMerger()
	for _, s := range sources {
		m.add(s)
	}
	if err := m.refuseClashes(); err != nil {
		return nil, err
	}
	return m.publish(ctx, into, base)
}

// mergeBase is the epoch to build on.
func mergeBase(ctx context.Context, s Store, root *format.RootSecret) (*base, error) {
	epochs, err := listEpochs(ctx, s)
	if err != nil {
		return nil, err
	}
	if len(epochs) == 0 {
		return firstMerge(ctx, s, root)
	}
	b, err := openBase(ctx, s, EncryptOptions{Root: root})
	if err != nil || readProvenance(b.manifest).Writer == mergeName {
		return b, err
	}
	b.dek.Destroy()
	return nil, fault.Errorf(fault.Conflict, "merge into another place; this volume can be one of the sources of that, if it lies below it",
		"the newest epoch of %s, %d, was not merged: what it holds would not be in the next", s, b.preamble.Epoch-1)
}

// firstMerge begins a volume where there is none. Unlike Encrypt's, its place is
// not empty: the sources are in it.
func firstMerge(ctx context.Context, s Store, root *format.RootSecret) (*base, error) {
	for _, prefix := range []string{format.DataPrefix, format.JournalPrefix} {
		for e, err := range s.List(ctx, prefix) {
			if err != nil {
				return nil, err
			}
			return nil, fault.Errorf(fault.Conflict, "name a place where no volume is or is being made",
				"%s is not a volume and holds %s", s, e.Name)
		}
	}
	id := format.NewVolumeID()
	return &base{
		dek:      root.DeriveDEK(id, 1),
		preamble: format.Preamble{Suite: suite, KeyVersion: 1, Volume: id, Run: format.NewRunID(), Epoch: 1},
	}, nil
}

// mergeProvenance is the informative JSON of a merged epoch.
type mergeProvenance struct {
	Writer  string             `json:"writer"`
	Time    time.Time          `json:"time"`
	Sources []format.Reference `json:"sources"`
}

// publish puts the manifest: with it the epoch exists.
func (m *merger) publish(ctx context.Context, s Store, b *base) (*Merged, error) {
	plain, err := m.build()
	if err != nil {
		return nil, fmt.Errorf("describing what is merged: %w", err)
	}
	sealed, ref := format.SealManifest(b.dek, b.preamble, plain)
	clear(plain)
	err = s.Put(ctx, format.ManifestName(ref.Epoch), sealed)
	if errors.Is(err, fs.ErrExist) {
		return nil, fault.Errorf(fault.Conflict, "run the command again", "volume %s: another writer made epoch %d meanwhile; nothing was published", s, ref.Epoch)
	}
	if err != nil {
		return nil, err
	}
	m.result.Reference, m.result.Volume, m.result.Epoch, m.result.ManifestBytes = ref, ref.Volume.String(), ref.Epoch, int64(len(sealed))
	return &m.result, nil
}
