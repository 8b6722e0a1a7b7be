package prep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// uploadMemory bounds the objects that Upload holds at a time, in bytes: a few
// of the size that prep writes. A larger one goes alone.
const uploadMemory = transfers * format.WriteObject

// UploadOptions are what can be chosen about an upload.
type UploadOptions struct{ Progress Progress }

// Uploaded is what Upload did. The JSON names are part of the command's
// interface.
type Uploaded struct {
	Volume  string `json:"volume"`
	Epochs  int    `json:"epochs"`  // in the source
	Objects int    `json:"objects"` // put by this run, manifests included
	Bytes   int64  `json:"bytes"`   // of them
	Present int    `json:"present"` // found there, with the right size
}

// Upload copies a volume from one store to another: data objects and
// signatures first, then manifests in the order of epochs, so that whoever
// reads meanwhile sees whole epochs only. It can be interrupted and run again:
// objects that are there with the right size are left as they are.
//
// Why that is safe: objects are put whole or not at all and never changed, and
// a data object's name is 128 random bits that its writer drew for it, so what
// is there under the name was put by an upload of this very object, unless the
// store is hostile. A hostile store could change what was just sent as well; a
// reader accepts neither, since the manifest pins header and length of every
// object and every segment is authenticated. Manifests, whose names are not
// random, are compared byte by byte.
func Upload(ctx context.Context, from, to Store, o UploadOptions) (*Uploaded, error) {
	u := &upload{from: from, to: to, progress: orNone(o.Progress), memory: semaphore.NewWeighted(uploadMemory)}
	if err := u.plan(ctx); err != nil {
		return nil, err
	}
	if err := u.putAll(ctx); err != nil {
		return nil, err
	}
	for _, e := range u.epochs {
		if err := u.put(ctx, listed{format.ManifestName(e.number), e.size}); err != nil {
			return nil, err
		}
	}
	return &u.result, nil
}

type upload struct {
	from, to Store
	progress Progress
	memory   *semaphore.Weighted
	epochs   []epoch  // to put, oldest first
	objects  []listed // to put before them

	mu     sync.Mutex // guards result
	result Uploaded
}

// plan finds out what is missing at the destination, and refuses what would
// not become the volume.
func (u *upload) plan(ctx context.Context) error {
	epochs, err := listEpochs(ctx, u.from)
	if err != nil {
		return err
	}
	if len(epochs) == 0 {
		return noVolume(u.from)
	}
	newest := epochs[len(epochs)-1]
	head, _, err := digestManifest(ctx, u.from, newest)
	if err != nil {
		return err
	}
	p, _, err := format.ParsePreamble(head)
	if err != nil {
		return refused(u.from, fmt.Errorf("%s: %w", format.ManifestName(newest.number), err))
	}
	u.result.Volume, u.result.Epochs = p.Volume.String(), len(epochs)
	if err := checkNoJournal(ctx, u.from, newest.number); err != nil {
		return err
	}
	there, err := u.listThere(ctx)
	if err != nil {
		return err
	}
	if err := u.planEpochs(ctx, epochs, there); err != nil {
		return err
	}
	return u.planObjects(ctx, there)
}

func (u *upload) listThere(ctx context.Context) (map[string]int64, error) {
	there := map[string]int64{}
	for e, err := range u.to.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		there[e.Name] = e.Size
	}
	return there, nil
}

// planEpochs compares the manifests that are on both sides. One that differs
// is another volume's, or another history of this one.
func (u *upload) planEpochs(ctx context.Context, epochs []epoch, there map[string]int64) error {
	common := false
	for _, e := range epochs {
		size, ok := there[format.ManifestName(e.number)]
		if !ok {
			u.epochs = append(u.epochs, e)
			continue
		}
		common = true
		u.result.Present++
		same := size == e.size
		if same {
			var err error
			if same, err = u.sameManifest(ctx, e); err != nil {
				return err
			}
		}
		if !same {
			return u.otherVolume(e.number)
		}
	}
	for name := range there {
		if number, ok := format.ParseManifestName(name); ok && !common {
			return u.otherVolume(number)
		}
	}
	return nil
}

func (u *upload) otherVolume(epoch uint64) error {
	return fault.Errorf(fault.Conflict, "name a place where nothing is yet, or the one this volume was uploaded to before",
		"%s holds another volume, or another epoch %d of this one; nothing was uploaded", u.to, epoch)
}

func (u *upload) sameManifest(ctx context.Context, e epoch) (bool, error) {
	_, ours, err := digestManifest(ctx, u.from, e)
	if err != nil {
		return false, err
	}
	_, theirs, err := digestManifest(ctx, u.to, e)
	return ours == theirs, err
}

func (u *upload) planObjects(ctx context.Context, there map[string]int64) error {
	var total int64
	for e, err := range u.from.List(ctx, "") {
		if err != nil {
			return err
		}
		if !isPayload(e.Name) {
			continue
		}
		size, ok := there[e.Name]
		switch {
		case !ok:
			u.objects = append(u.objects, e)
			total += e.Size
		case size != e.Size:
			return u.otherSize(e, size)
		default:
			u.result.Present++
		}
	}
	for _, e := range u.epochs {
		total += e.size
	}
	u.progress.Total(total)
	return nil
}

func (u *upload) otherSize(e listed, size int64) error {
	return fault.Errorf(fault.Conflict, "see which is damaged (`cloister prep verify`), delete it there, and run the command again",
		"object %s has %d bytes at %s and %d at %s", e.Name, e.Size, u.from, size, u.to)
}

// isPayload reports whether a name is of an object that goes before the
// manifests. Journals of epochs that are complete need not go at all. Data of
// volumes that lie below this one goes along: it may have been merged from them,
// which only its sealed manifest says.
func isPayload(name string) bool {
	return strings.HasPrefix(name, format.DataPrefix) || strings.HasPrefix(name, format.SignaturePrefix) ||
		strings.Contains(name, "/"+format.DataPrefix)
}

func (u *upload) putAll(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(transfers)
	for _, o := range u.objects {
		if running.Err() != nil {
			break
		}
		group.Go(func() error { return u.put(running, o) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

func (u *upload) put(ctx context.Context, o listed) error {
	weight := min(o.Size, uploadMemory)
	if err := u.memory.Acquire(ctx, weight); err != nil {
		return err
	}
	defer u.memory.Release(weight)
	data := make([]byte, o.Size)
	if err := u.from.Get(ctx, o.Name, 0, data); err != nil {
		return err
	}
	put := 1
	err := u.to.Put(ctx, o.Name, data)
	if errors.Is(err, fs.ErrExist) {
		// Another upload of the same volume runs beside this one.
		put, err = 0, u.sameThere(ctx, o, data)
	}
	if err != nil {
		return err
	}
	u.progress.Done(o.Size)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.result.Objects += put
	u.result.Present += 1 - put
	u.result.Bytes += int64(put) * o.Size
	return nil
}

// sameThere compares what has appeared at the destination with data.
func (u *upload) sameThere(ctx context.Context, o listed, data []byte) error {
	theirs := make([]byte, o.Size)
	if err := u.to.Get(ctx, o.Name, 0, theirs); err != nil {
		return err
	}
	if bytes.Equal(data, theirs) {
		return nil
	}
	if number, ok := format.ParseManifestName(o.Name); ok {
		return u.otherVolume(number)
	}
	return fault.Errorf(fault.Conflict, "someone else writes there: see who, then encrypt again or into another place", "another object %s has appeared at %s", o.Name, u.to)
}
