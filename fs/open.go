package fs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// KeyFunc returns the DEK of the volume whose manifest or record begins with p;
// who asks destroys it. Of p, a new volume's has id and key version only. The
// owner's derives the DEK from the root secret, a recipient's unwraps it from
// p's stanzas, the runtime's is what was released.
type KeyFunc func(p format.Preamble) (*format.DEK, error)

// Manifest ranges: large enough that the round trip is not the time, and
// aligned as block stores like it; enough at once to fill a connection each.
const (
	manifestRange    = 8 << 20
	manifestParallel = 8
)

// openManifest finds, reads and opens the newest manifest of a volume, or, with
// a reference, exactly the one it names.
func openManifest(ctx context.Context, s Store, key KeyFunc, want *format.Reference) (*format.Manifest, error) {
	epoch, err := findEpoch(ctx, s, want)
	if err != nil {
		return nil, err
	}
	sealed, err := readManifest(ctx, s, epoch)
	if err != nil {
		return nil, err
	}
	m, err := unsealManifest(s, sealed, epoch, key, want)
	if err != nil {
		releaseMemory(sealed)
		return nil, err
	}
	releaseWith(m, sealed)
	return m, nil
}

// unsealManifest opens a manifest, in the memory it was read into.
func unsealManifest(s Store, sealed []byte, epoch uint64, key KeyFunc, want *format.Reference) (*format.Manifest, error) {
	p, _, err := format.ParsePreamble(sealed)
	if err != nil {
		return nil, fmt.Errorf("opening volume %s: %w", s, err)
	}
	if err := compare(s, p, epoch, want); err != nil {
		return nil, err
	}
	dek, err := key(p)
	if err != nil {
		return nil, fmt.Errorf("opening volume %s: %w", s, err)
	}
	defer dek.Destroy()
	m, err := format.OpenManifest(sealed, dek, want)
	switch {
	case errors.Is(err, format.ErrWrongKey):
		return nil, fault.Errorf(fault.Refused, "use the KEYFILE that the volume was encrypted with; as a recipient, ask its owner: somebody may have put another volume in its place", "opening volume %s: %w", s, err)
	case errors.Is(err, format.ErrReference): // compare has found everything but this
		return nil, fault.Errorf(fault.Refused, otherHint, "opening volume %s: its epoch %d is not the one the reference names: the manifest has other content: %w", s, epoch, err)
	case err != nil:
		return nil, fmt.Errorf("opening volume %s: %w", s, err)
	}
	return m, nil
}

// findEpoch returns the epoch to open: the newest in the store, or the
// reference's, which must be there.
func findEpoch(ctx context.Context, s Store, want *format.Reference) (uint64, error) {
	if want != nil {
		_, err := s.Size(ctx, format.ManifestName(want.Epoch))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return want.Epoch, wrap("opening volume %s: %w", s, err)
		}
	}
	var newest uint64
	for entry, err := range s.List(ctx, format.ManifestPrefix) {
		if err != nil {
			return 0, fmt.Errorf("looking for volume %s: %w", s, err)
		}
		if epoch, ok := format.ParseManifestName(entry.Name); ok {
			newest = max(newest, epoch)
		}
	}
	if newest == 0 {
		return 0, fault.Errorf(fault.NotFound, "check the volume's name; `cloister prep encrypt` makes one", "there is no volume at %s", s)
	}
	if want == nil {
		return newest, nil
	}
	age := "newer"
	if newest < want.Epoch {
		age = "older"
	}
	return 0, fault.Errorf(fault.Refused, otherHint, "opening volume %s: its newest epoch, %d, is %s than the reference's, %d, which is not there: %w",
		s, newest, age, want.Epoch, format.ErrReference)
}

const otherHint = "somebody put another volume in its place, or the reference is not this volume's: ask its owner"

// compare says in what a volume differs from the reference, and that the
// manifest is not another epoch's under this one's name. What it compares is
// not yet authentic: it can refuse, and OpenManifest's refusal decides.
func compare(s Store, p format.Preamble, epoch uint64, want *format.Reference) error {
	if p.Epoch != epoch {
		return fault.Errorf(fault.Refused, otherHint, "opening volume %s: the manifest of epoch %d lies under the name of epoch %d: %w",
			s, p.Epoch, epoch, format.ErrReference)
	}
	if want == nil {
		return nil
	}
	var differs string
	switch {
	case p.Volume != want.Volume:
		differs = fmt.Sprintf("it is another volume, %s; the reference names %s", p.Volume, want.Volume)
	case p.KeyVersion != want.KeyVersion:
		differs = fmt.Sprintf("it has key version %d; the reference has %d", p.KeyVersion, want.KeyVersion)
	case !p.Check.Equal(want.Check):
		differs = "it is sealed under another DEK than the reference's"
	default:
		return nil
	}
	return fault.Errorf(fault.Refused, otherHint, "opening volume %s: %s: %w", s, differs, format.ErrReference)
}

// readManifest reads a manifest whole, in parallel ranges.
func readManifest(ctx context.Context, s Store, epoch uint64) ([]byte, error) {
	name := format.ManifestName(epoch)
	size, err := s.Size(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("opening volume %s: %w", s, err)
	}
	if size > format.MaxSealedManifest {
		return nil, fmt.Errorf("opening volume %s: %w: its manifest has %d bytes", s, format.ErrMalformed, size)
	}
	sealed := manifestMemory(size)
	ranges := int((size + manifestRange - 1) / manifestRange)
	_, err = parallel(ranges, manifestParallel, func(i int) error {
		off := int64(i) * manifestRange
		return s.Get(ctx, name, off, sealed[off:min(off+manifestRange, size)])
	})
	if err != nil {
		releaseMemory(sealed)
		return nil, fmt.Errorf("opening volume %s: %w", s, err)
	}
	return sealed, nil
}

// wrap wraps err, if there is one.
func wrap(format string, s Store, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format, s, err)
}
