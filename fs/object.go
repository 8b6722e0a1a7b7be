package fs

import (
	"sync/atomic"

	"cloister/fs/format"
)

// object is what reading a data object takes. It is immutable.
type object struct {
	index  uint32
	id     format.ObjectID
	name   string // in the store
	opener *format.Opener
}

// openers keeps the objects used last: each in the slot of its index, so that
// it is bounded and needs no lock. 1,024 full objects are 32 GiB of data, and
// about 1 MiB of key schedules.
type openers [1024]atomic.Pointer[object]

// object returns object number index of the volume.
func (v *Volume) object(index uint32) (*object, error) {
	slot := &v.openers[index%uint32(len(v.openers))]
	if o := slot.Load(); o != nil && o.index == index {
		return o, nil
	}
	entry := v.manifest.Object(index)
	opener, err := v.manifest.NewOpener(entry)
	if err != nil {
		return nil, err
	}
	o := &object{index: index, id: entry.ID, name: v.manifest.ObjectName(entry), opener: opener}
	slot.Store(o)
	return o, nil
}
