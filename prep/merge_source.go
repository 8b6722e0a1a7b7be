package prep

import (
	"context"
	"fmt"
	"slices"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// source is a volume to be merged, and what its numbers are in the merged one.
type source struct {
	place string
	m     *format.Manifest

	inodes  map[uint32]uint32
	objects map[uint32]uint32
	keys    map[uint32]uint32
	places  map[uint32]uint32
}

// either is the key of sources: the owner's, or that of a party they are sealed
// for.
type either struct {
	root  *format.RootSecret
	other Key
}

func (e either) DEK(p format.Preamble) (*format.DEK, error) {
	dek, err := e.root.DEK(p)
	if err != nil || e.other == nil || dek.Check(p.Volume).Equal(p.Check) {
		return dek, err
	}
	dek.Destroy()
	return e.other.DEK(p)
}

// openSources opens every source at its reference, where it has one. Each
// reference must be of a source.
func openSources(ctx context.Context, into Store, places []string, o MergeOptions) ([]*source, error) {
	wanted := map[format.VolumeID]*format.Reference{}
	for _, ref := range o.References {
		if wanted[ref.Volume] != nil {
			return nil, fault.Errorf(fault.Usage, "give one of them", "two references are of volume %s", ref.Volume)
		}
		wanted[ref.Volume] = &ref
	}
	var sources []*source
	for _, place := range places {
		s, err := openSource(ctx, below{into, place + "/"}, either{o.Root, o.Identity}, wanted)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", place, err)
		}
		s.place = place
		id := s.m.Preamble().Volume
		if i := slices.IndexFunc(sources, func(other *source) bool { return other.m.Preamble().Volume == id }); i >= 0 {
			return nil, fault.Errorf(fault.Conflict, "name each volume once, and give each writer an output volume of its own",
				"%s and %s are the same volume, %s", sources[i].place, place, id)
		}
		delete(wanted, id)
		sources = append(sources, s)
	}
	for id := range wanted {
		return nil, fault.Errorf(fault.Refused, "check which volumes are named; a store may also show another volume than it should", "a reference is of volume %s, which is none of the sources", id)
	}
	return sources, nil
}

func openSource(ctx context.Context, s Store, key Key, wanted map[format.VolumeID]*format.Reference) (*source, error) {
	newest, err := newestReference(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := checkNoJournal(ctx, s, newest.Epoch); err != nil {
		return nil, err
	}
	m, dek, err := openVolume(ctx, s, key, wanted[newest.Volume])
	if err != nil {
		return nil, err
	}
	dek.Destroy()
	if got := m.Preamble().Volume; got != newest.Volume {
		return nil, refused(s, fmt.Errorf("%w: it showed volume %s and then %s", format.ErrReference, newest.Volume, got))
	}
	return &source{m: m, inodes: map[uint32]uint32{}, objects: map[uint32]uint32{}, keys: map[uint32]uint32{}, places: map[uint32]uint32{}}, nil
}
