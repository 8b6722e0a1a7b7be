package fs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"cloister/fs/cache"
	"cloister/fs/format"
)

// reader reads sealed bytes back the way an input volume is read: through a
// Volume without a manifest, whose objects are those of the output.
type reader struct {
	volume  *Volume
	numbers atomic.Uint32 // given to objects, for the cache
	names   sync.Map      // number to name in the store
}

// openReader sets reading up. Over a store that is not local, sealed ranges are
// kept in the eighth of the memory that pages and sealers leave.
func (o *Output) openReader() {
	o.reader.volume = &Volume{store: o.store}
	if !isLocal(o.store) {
		memory := o.opts.Memory / 8
		o.reader.volume.cache = cache.New(memory, minRange, powerOfTwo(min(max(memory/8, minRange), maxRange)), o.fetchRange)
	}
}

func (r *reader) close() {
	if r.volume != nil && r.volume.cache != nil {
		r.volume.cache.Close()
	}
}

func (o *Output) fetchRange(ctx context.Context, number uint32, off int64, p []byte) error {
	name, ok := o.reader.names.Load(number)
	if !ok {
		return fmt.Errorf("object number %d has no name", number)
	}
	return o.store.Get(ctx, name.(string), off, p)
}

// readObjects fills the parts of a read that objects answer.
func (o *Output) readObjects(ctx context.Context, reads []sealedRead) error {
	var runs []run
	for _, r := range reads {
		obj, err := o.object(r.obj)
		if err != nil {
			return err
		}
		runs = appendRuns(runs, run{object: obj, plainOff: r.off, dst: r.dst})
	}
	_, err := parallel(len(runs), workers(), func(i int) error {
		return o.reader.volume.fill(ctx, &runs[i], minRange)
	})
	var stop *stopError
	if errors.As(err, &stop) {
		err = stop.err
	}
	return err
}

// object returns what reading a data object takes.
func (o *Output) object(d *dataObject) (*object, error) {
	if obj := d.reading.Load(); obj != nil {
		return obj, nil
	}
	k := o.tree.keys[d.Key] // complete since opening
	id := format.Identity{Suite: k.Suite, Kind: format.KindData, Slot: k.Slot, Volume: k.Origin, Object: d.ID}
	open, err := format.NewOpener(k.Key, id, d.Header, d.SealedLen)
	if err != nil {
		return nil, err
	}
	obj := &object{index: o.reader.numbers.Add(1), id: d.ID, name: d.name, opener: open}
	o.reader.names.Store(obj.index, d.name)
	if !d.reading.CompareAndSwap(nil, obj) {
		obj = d.reading.Load()
	}
	return obj, nil
}
