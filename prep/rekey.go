package prep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// RekeyOptions say how a volume gets a new DEK.
type RekeyOptions struct {
	Root *format.RootSecret // the owner's
	// Objects seals all data anew under a new object key too: each object is
	// fetched, opened in memory, sealed and put; no plaintext touches a disk.
	Objects bool
	// Previous is the reference of the newest epoch, where the caller knows it.
	Previous   *format.Reference
	Recipients []*format.Recipient // who else can open the epoch; nil: nobody
	Progress   Progress
}

// Rekeyed is what Rekey made. The JSON names are part of the command's interface.
type Rekeyed struct {
	Reference     format.Reference `json:"reference"`
	Volume        string           `json:"volume"`
	Epoch         uint64           `json:"epoch"`
	KeyVersion    uint32           `json:"key_version"`
	NewObjects    int              `json:"new_objects"`
	SealedBytes   int64            `json:"sealed_bytes"` // of new objects
	ManifestBytes int64            `json:"manifest_bytes"`
}

// Rekey makes the next epoch of a volume, of the same files, under the DEK of the
// next key version. The folder is not needed. Without Objects it moves no data: a
// DEK seals the manifest, which holds the keys that the data is sealed with, so
// that sealing the manifest anew is enough to keep the epoch from who has the DEK
// of before alone. Who has opened an epoch of before can have kept the object keys,
// and with them opens the same data still; against that, Objects.
//
// What is there stays until it is pruned, and who could open it can. Of two writers
// at once one wins; the other's error is of kind Conflict.
func Rekey(ctx context.Context, s Store, o RekeyOptions) (*Rekeyed, error) {
	epochs, err := listEpochs(ctx, s)
	if err != nil {
		return nil, err
	}
	if len(epochs) == 0 {
		return nil, noVolume(s)
	}
	base, err := openBase(ctx, s, EncryptOptions{Root: o.Root, NewKey: true, Previous: o.Previous, Recipients: o.Recipients})
	if err != nil {
		return nil, err
	}
	defer base.dek.Destroy()
	if err := base.sealFor(o.Recipients); err != nil {
		return nil, err
	}
	r := &rekeying{store: s, m: base.manifest, progress: orNone(o.Progress)}
	if o.Objects {
		if err := r.seal(ctx, base.preamble.Volume); err != nil {
			return nil, err
		}
		defer r.keys[0].Key.Destroy()
	}
	return r.publish(ctx, base)
}

// rekeying is one run of Rekey.
type rekeying struct {
	store    Store
	m        *format.Manifest
	progress Progress
	keys     []format.Key    // the new one; nil keeps those there are
	objects  []format.Object // likewise
}

// seal seals every object under a new key, a few at a time.
func (r *rekeying) seal(ctx context.Context, volume format.VolumeID) error {
	key := format.NewObjectKey()
	r.keys = []format.Key{{Key: key, Origin: volume, Slot: 0, Suite: suite}}
	r.objects = make([]format.Object, r.m.Objects())
	total := int64(0)
	for i := range r.objects {
		total += r.m.Object(uint32(i)).SealedLen
	}
	r.progress.Total(total)
	memory := semaphore.NewWeighted(uploadMemory)
	group, ctx := errgroup.WithContext(ctx)
	for i := range r.objects {
		need := min(r.m.Object(uint32(i)).SealedLen, uploadMemory)
		if err := memory.Acquire(ctx, need); err != nil {
			group.Go(func() error { return err }) // after the reason, if that is the group's
			break
		}
		group.Go(func() (err error) {
			defer memory.Release(need)
			r.objects[i], err = r.again(ctx, uint32(i), key, volume)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		key.Destroy()
		return err
	}
	return nil
}

// again seals one object anew. Its plaintext, padding included, is as long as it
// was, so that the store learns no more than it knew.
func (r *rekeying) again(ctx context.Context, index uint32, key *format.ObjectKey, volume format.VolumeID) (format.Object, error) {
	o, err := newObject(r.m, index)
	if err != nil {
		return format.Object{}, refused(r.store, err)
	}
	plain := make([]byte, 0, o.opener.PlainLen())
	defer func() { clear(plain[:cap(plain)]) }()
	buffer := make([]byte, min(window, o.length))
	err = o.open(ctx, r.store, buffer, func(_, _ int64, segment []byte, err error) error {
		plain = append(plain, segment...)
		return err
	})
	clear(buffer)
	if err != nil {
		err = fmt.Errorf("object %s: %w", o.name, err)
		if isDamage(err) {
			return format.Object{}, refused(r.store, err)
		}
		return format.Object{}, err
	}
	id := format.Identity{Suite: suite, Kind: format.KindData, Slot: 0, Volume: volume, Object: format.NewObjectID()}
	sealed, header := format.SealData(nil, key, id, plain, false)
	if err := r.store.Put(ctx, format.ObjectName(id.Object), sealed); err != nil {
		return format.Object{}, err
	}
	r.progress.Done(o.length)
	return format.Object{ID: id.Object, Header: header, SealedLen: int64(len(sealed)), Key: 0}, nil
}

// publish puts the manifest: with it the epoch exists.
func (r *rekeying) publish(ctx context.Context, b *base) (*Rekeyed, error) {
	plain, err := r.m.With(r.keys, r.objects)
	if err != nil {
		return nil, fmt.Errorf("describing the volume %s: %w", r.store, err)
	}
	sealed, ref := format.SealManifest(b.dek, b.preamble, plain)
	clear(plain)
	err = r.store.Put(ctx, format.ManifestName(ref.Epoch), sealed)
	if errors.Is(err, fs.ErrExist) {
		return nil, fault.Errorf(fault.Conflict, "run the command again", "volume %s: another writer made epoch %d meanwhile; nothing was published", r.store, ref.Epoch)
	}
	if err != nil {
		return nil, err
	}
	done := &Rekeyed{Reference: ref, Volume: ref.Volume.String(), Epoch: ref.Epoch, KeyVersion: ref.KeyVersion, NewObjects: len(r.objects), ManifestBytes: int64(len(sealed))}
	for _, o := range r.objects {
		done.SealedBytes += o.SealedLen
	}
	return done, nil
}
