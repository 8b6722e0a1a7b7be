package prep

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"

	"golang.org/x/sync/errgroup"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// Store is where a volume's objects are. Put makes a new object, whole or not
// at all, and returns when it is durable; for a name that is taken its error
// wraps io/fs's ErrExist. Get fills p from offset off; the error for an object
// that is not there wraps io/fs's ErrNotExist. It is safe for concurrent use.
type Store interface {
	Get(ctx context.Context, name string, off int64, p []byte) error
	Put(ctx context.Context, name string, data []byte) error
	List(ctx context.Context, prefix string) iter.Seq2[listed, error]
	Delete(ctx context.Context, name string) error
	String() string
}

type listed = struct {
	Name string
	Size int64
}

// Progress is told how the work goes, in bytes, from any goroutine.
type Progress interface {
	// Total is called when it is known, or better known, how many there are.
	Total(bytes int64)
	// Done is called with the bytes done since the last call.
	Done(bytes int64)
}

type noProgress struct{}

func (noProgress) Total(int64) {}
func (noProgress) Done(int64)  {}

func orNone(p Progress) Progress {
	if p == nil {
		return noProgress{}
	}
	return p
}

const (
	// window is how much of a sealed object is fetched and opened at a time, in
	// bytes: a whole object of those that prep writes, and a multiple of every
	// suite's segments.
	window = format.WriteObject

	// transfers is how many objects are in flight at a time. Four requests of
	// 32 MiB, which a store splits further, fill the links that were measured;
	// each holds a window of memory.
	transfers = 4
)

// epoch is a manifest in a store: its number and sealed size in bytes.
type epoch struct {
	number uint64
	size   int64
}

// listEpochs returns the manifests of a volume, oldest first.
func listEpochs(ctx context.Context, s Store) ([]epoch, error) {
	var epochs []epoch
	for e, err := range s.List(ctx, format.ManifestPrefix) {
		if err != nil {
			return nil, err
		}
		if number, ok := format.ParseManifestName(e.Name); ok {
			epochs = append(epochs, epoch{number, e.Size})
		}
	}
	slices.SortFunc(epochs, func(a, b epoch) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return epochs, nil
}

var errNoVolume = fault.Sentinel(fault.NotFound, "there is no volume")

func noVolume(s Store) error {
	return fault.Errorf(fault.NotFound, "check the name; `cloister prep encrypt` makes a volume, and nothing is there before it has ended",
		"%w at %s: it holds no manifest", errNoVolume, s)
}

// getManifest fetches a manifest whole.
func getManifest(ctx context.Context, s Store, e epoch) ([]byte, error) {
	if e.size > format.MaxSealedManifest {
		return nil, fault.Errorf(fault.Refused, "restore the volume from a copy: no program of ours writes one so long", "%s of %s has %d bytes: too long for a manifest", format.ManifestName(e.number), s, e.size)
	}
	sealed := make([]byte, e.size)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(transfers)
	for off := int64(0); off < e.size; off += window {
		group.Go(func() error {
			return s.Get(ctx, format.ManifestName(e.number), off, sealed[off:min(off+window, e.size)])
		})
	}
	return sealed, group.Wait()
}

// digestManifest returns a manifest's digest and its first bytes, which hold
// the preamble, without keeping the rest.
func digestManifest(ctx context.Context, s Store, e epoch) (head []byte, d format.Digest, err error) {
	h := sha256.New()
	buf := make([]byte, min(e.size, window))
	for off := int64(0); off < e.size; off += window {
		piece := buf[:min(window, e.size-off)]
		if err := s.Get(ctx, format.ManifestName(e.number), off, piece); err != nil {
			return nil, d, err
		}
		h.Write(piece)
		if off == 0 {
			head = slices.Clone(piece[:min(len(piece), maxPreamble)])
		}
	}
	return head, format.Digest(h.Sum(nil)), nil
}

// maxPreamble is FORMAT.md's limit for the clear part, stanzas included.
const maxPreamble = 132 + format.MaxStanzas

// Key opens volumes: the owner's *format.RootSecret opens all that were sealed
// with it, a *format.RecipientKey those that have a stanza for it.
type Key interface {
	// DEK returns the DEK of the volume whose manifest begins with p.
	DEK(p format.Preamble) (*format.DEK, error)
}

// openVolume opens the newest manifest of a volume, or the one that a
// reference names, and returns the DEK, the caller's to destroy.
func openVolume(ctx context.Context, s Store, key Key, ref *format.Reference) (*format.Manifest, *format.DEK, error) {
	epochs, err := listEpochs(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	if len(epochs) == 0 {
		return nil, nil, noVolume(s)
	}
	e := epochs[len(epochs)-1]
	if ref != nil {
		i := slices.IndexFunc(epochs, func(e epoch) bool { return e.number == ref.Epoch })
		if i < 0 {
			return nil, nil, refused(s, fmt.Errorf("%w: it has no epoch %d, its newest is %d", format.ErrReference, ref.Epoch, e.number))
		}
		e = epochs[i]
	}
	return openEpoch(ctx, s, key, e, ref)
}

// openEpoch opens the manifest of one epoch.
func openEpoch(ctx context.Context, s Store, key Key, e epoch, ref *format.Reference) (*format.Manifest, *format.DEK, error) {
	sealed, err := getManifest(ctx, s, e)
	if err != nil {
		return nil, nil, err
	}
	p, _, err := format.ParsePreamble(sealed)
	if err == nil && p.Epoch != e.number && ref == nil { // with one, its digest is compared first
		err = fmt.Errorf("%w: %s holds the manifest of epoch %d", format.ErrMalformed, format.ManifestName(e.number), p.Epoch)
	}
	if err != nil {
		return nil, nil, refused(s, err)
	}
	// Volume id and key version are the store's word until the stream has
	// opened: another DEK than the volume's opens nothing.
	dek, err := key.DEK(p)
	if err != nil {
		return nil, nil, refused(s, err)
	}
	m, err := format.OpenManifest(sealed, dek, ref)
	if err != nil {
		dek.Destroy()
		return nil, nil, refused(s, err)
	}
	return m, dek, nil
}

// refused adds the volume and the remedy to an error of package format.
func refused(s Store, err error) error {
	hint := "the store's copy was changed or damaged: upload the volume again, or restore it from a copy"
	switch {
	case errors.Is(err, format.ErrReference):
		hint = "the store shows another volume, or an older or newer state of it, than the reference: ask who gave you the reference for the newest, or see who wrote to the store"
	case errors.Is(err, format.ErrWrongKey):
		hint = "name the key file that the volume was sealed with; as a recipient, ask its owner: somebody may have put another volume in its place"
	case errors.Is(err, format.ErrNotRecipient):
		hint = "ask the volume's owner to seal it for your party's document; `cloister prep inspect` shows for which keys it is sealed"
	}
	return fault.Errorf(fault.Refused, hint, "volume %s: %w", s, err)
}

// isMissing reports whether a store's error says that an object is not there.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
