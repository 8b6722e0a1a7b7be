package prep

import (
	"context"
	"fmt"
	"strings"

	"cloister/fs/format"
)

// Inspected is what can be said of a volume without its key: what its store
// and the clear parts of its manifests claim, none of it authenticated. The
// JSON names are part of the command's interface.
type Inspected struct {
	Volume      string           `json:"volume"`
	Epochs      []InspectedEpoch `json:"epochs"`       // oldest first
	DataObjects int              `json:"data_objects"` // in the store, of all epochs
	DataBytes   int64            `json:"data_bytes"`
	Journal     int              `json:"journal_records"`
	Signatures  int              `json:"signatures"`
	Below       int              `json:"below"`  // objects of volumes that lie below this one
	Others      int              `json:"others"` // objects that no volume has
}

// InspectedEpoch is an epoch by the clear part of its manifest.
type InspectedEpoch struct {
	Epoch      uint64           `json:"epoch"`
	KeyVersion uint32           `json:"key_version"`
	Reference  format.Reference `json:"reference"`
	Bytes      int64            `json:"manifest_bytes"`
	Run        string           `json:"run"`
	// Recipients are the key ids of those who can open it beside its owner.
	Recipients []string `json:"recipients"`
	// Follows says whether the manifest names the one before as its previous:
	// null where that is not in the store, or there is none before.
	Follows *bool `json:"follows"`
}

// Inspect reads the clear parts of a volume. A manifest that does not begin as
// one, or is in the place of another, is an error of kind Refused.
func Inspect(ctx context.Context, s Store) (*Inspected, error) {
	epochs, err := listEpochs(ctx, s)
	if err != nil {
		return nil, err
	}
	if len(epochs) == 0 {
		return nil, noVolume(s)
	}
	r := &Inspected{Epochs: []InspectedEpoch{}}
	var before *InspectedEpoch
	for _, e := range epochs {
		p, digest, err := inspectManifest(ctx, s, e)
		if err != nil {
			return nil, err
		}
		r.Volume = p.Volume.String()
		r.Epochs = append(r.Epochs, describe(p, digest, e, before))
		before = &r.Epochs[len(r.Epochs)-1]
	}
	return r, r.count(ctx, s)
}

func inspectManifest(ctx context.Context, s Store, e epoch) (p format.Preamble, d format.Digest, err error) {
	head, d, err := digestManifest(ctx, s, e)
	if err != nil {
		return p, d, err
	}
	p, _, err = format.ParsePreamble(head)
	if err == nil {
		_, err = p.Recipients()
	}
	if err == nil && (p.Epoch != e.number || p.Kind != format.KindManifest) {
		err = fmt.Errorf("%w: it holds something of epoch %d", format.ErrMalformed, p.Epoch)
	}
	if err != nil {
		err = refused(s, fmt.Errorf("%s: %w", format.ManifestName(e.number), err))
	}
	return p, d, err
}

func describe(p format.Preamble, d format.Digest, e epoch, before *InspectedEpoch) InspectedEpoch {
	i := InspectedEpoch{
		Epoch: p.Epoch, KeyVersion: p.KeyVersion, Bytes: e.size, Run: p.Run.String(), Recipients: recipientsOf(p),
		Reference: format.Reference{Volume: p.Volume, Epoch: p.Epoch, KeyVersion: p.KeyVersion, Manifest: d, Check: p.Check},
	}
	if before != nil && before.Epoch+1 == p.Epoch {
		follows := before.Reference.Manifest == p.Previous && before.Reference.Volume == p.Volume
		i.Follows = &follows
	}
	return i
}

// recipientsOf returns the key ids of stanzas that inspectManifest has parsed.
func recipientsOf(p format.Preamble) []string {
	names := []string{}
	ids, _ := p.Recipients()
	for _, id := range ids {
		names = append(names, id.String())
	}
	return names
}

func (r *Inspected) count(ctx context.Context, s Store) error {
	for e, err := range s.List(ctx, "") {
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(e.Name, format.DataPrefix):
			r.DataObjects++
			r.DataBytes += e.Size
		case strings.HasPrefix(e.Name, format.JournalPrefix):
			r.Journal++
		case strings.HasPrefix(e.Name, format.SignaturePrefix):
			r.Signatures++
		case isBelow(e.Name):
			r.Below++
		case !strings.HasPrefix(e.Name, format.ManifestPrefix):
			r.Others++
		}
	}
	return nil
}

// isBelow reports whether a name is of an object of a volume below.
func isBelow(name string) bool {
	for _, prefix := range []string{format.DataPrefix, format.ManifestPrefix, format.JournalPrefix, format.PendingPrefix, format.SignaturePrefix} {
		if strings.Contains(name, "/"+prefix) {
			return true
		}
	}
	return false
}

// CheckVolume reports as an error that there is no volume at s.
func CheckVolume(ctx context.Context, s Store) error {
	epochs, err := listEpochs(ctx, s)
	if err == nil && len(epochs) == 0 {
		err = noVolume(s)
	}
	return err
}
