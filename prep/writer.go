package prep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"cloister/fs/format"
	"cloister/governance/statement"
	"cloister/internal/fault"
)

// Sign puts the writer's signature over an epoch's reference beside the volume.
// It is not an error that the same writer has signed it before.
func Sign(ctx context.Context, s Store, ref format.Reference, writer statement.Signer) error {
	signed, err := statement.SignReference(ref.String(), writer)
	if err != nil {
		return err
	}
	err = s.Put(ctx, format.SignatureName(ref.Epoch), signed)
	if errors.Is(err, fs.ErrExist) {
		return checkSignature(ctx, s, ref, writer.Public())
	}
	return err
}

// Signed returns the reference of the epoch that want names, or of the newest
// for nil, if writer signed it: anybody can seal a volume of their own for a
// recipient's public key, and the signature tells a forged one. The store's word
// is not taken for anything; who opens the volume with the reference opens what
// was signed or nothing.
func Signed(ctx context.Context, s Store, want *format.Reference, writer statement.PublicKey) (*format.Reference, error) {
	if want == nil {
		newest, err := newestReference(ctx, s)
		if err != nil {
			return nil, err
		}
		want = &newest
	}
	return want, checkSignature(ctx, s, *want, writer)
}

func newestReference(ctx context.Context, s Store) (format.Reference, error) {
	epochs, err := listEpochs(ctx, s)
	if err != nil {
		return format.Reference{}, err
	}
	if len(epochs) == 0 {
		return format.Reference{}, noVolume(s)
	}
	e := epochs[len(epochs)-1]
	p, digest, err := inspectManifest(ctx, s, e)
	return describe(p, digest, e, nil).Reference, err
}

func checkSignature(ctx context.Context, s Store, ref format.Reference, writer statement.PublicKey) error {
	const hint = "somebody else may have written the volume: ask the writer for the reference, and whether its signature was put beside the volume"
	name := format.SignatureName(ref.Epoch)
	signed, err := getSmall(ctx, s, name, statement.MaxReferenceSignature)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Errorf(fault.Refused, hint, "volume %s: nobody has signed its epoch %d: there is no %s", s, ref.Epoch, name)
	}
	if err != nil {
		return err
	}
	if err := statement.VerifyReference(signed, ref.String(), writer); err != nil {
		return fault.Errorf(fault.Refused, hint, "volume %s: the signature of its epoch %d is not the writer's: %w", s, ref.Epoch, err)
	}
	return nil
}

// getSmall fetches an object of at most limit bytes.
func getSmall(ctx context.Context, s Store, name string, limit int64) ([]byte, error) {
	for e, err := range s.List(ctx, name) {
		if err != nil {
			return nil, err
		}
		if e.Name != name {
			continue
		}
		if e.Size > limit {
			return nil, fault.Errorf(fault.Refused, "what lies there is not this volume's: restore it from a copy, or use another place", "%s of %s has %d bytes, at most %d are allowed", name, s, e.Size, limit)
		}
		data := make([]byte, e.Size)
		return data, s.Get(ctx, name, 0, data)
	}
	return nil, fmt.Errorf("%s of %s: %w", name, s, fs.ErrNotExist)
}
