package fs

import (
	"context"
	"runtime"
	"sync"

	"cloister/fs/cache"
	"cloister/fs/format"
)

// Options are how a volume is opened. The zero value will do.
type Options struct {
	// Reference, if set, is the only state of the volume that is accepted.
	Reference *format.Reference
	// Memory bounds what is cached and read ahead of sealed bytes, in bytes; 0
	// is DefaultMemory. The manifest, and the replies being made, come on top.
	// A local store needs none of it.
	Memory int64
	// Whole, if set, has Open fetch every object of the volume, in the order of the
	// manifest's table, check it, and hold it, sealed, in memory: then the store is
	// asked nothing more, so that what is read, and when, does not show there.
	// Whole is told first how many bytes that takes on top of Memory; its error is
	// Open's.
	Whole func(bytes int64) error
}

// DefaultMemory fits a container of 1 GiB beside the manifest and the program.
const DefaultMemory = 256 << 20

// Sizes of requests to a store that is not local, in sealed bytes: powers of
// two that a segment of any suite divides. A random read costs one request of
// the least; of ranges of up to 4 MiB Azurite computes the MD5 first, and answers
// those of 8 MiB at three times the rate.
const (
	minRange = 64 << 10
	maxRange = 8 << 20
)

// Volume is an input volume: one epoch, immutable. It is safe for concurrent
// use.
type Volume struct {
	manifest *format.Manifest
	store    Store
	openers  openers
	cache    *cache.Cache // nil over a local store
	maxRange int64        // of the cache's ranges
	maxAhead int64        // bytes read ahead of one reader, at most
	pace     pace
	counters counters
	packs    packs

	ctx   context.Context // of everything read ahead; ends at Close
	close context.CancelFunc
}

// Open opens the newest epoch of the volume in store, or exactly the one of
// Options.Reference. Errors: of kind NotFound where there is no volume; of kind
// Refused, wrapping format.ErrWrongKey, ErrReference, ErrAuthentication or
// ErrMalformed; the store's.
func Open(ctx context.Context, store Store, key KeyFunc, o Options) (*Volume, error) {
	v := &Volume{store: store}
	m, err := openManifest(ctx, paced{store, &v.pace}, key, o.Reference)
	if err != nil {
		return nil, err
	}
	v.manifest = m
	v.ctx, v.close = context.WithCancel(context.Background())
	if o.Whole != nil {
		if err := v.fetchWhole(ctx, o.Whole); err != nil {
			v.close()
			return nil, err
		}
	}
	if !isLocal(v.store) {
		memory := o.Memory
		if memory <= 0 {
			memory = DefaultMemory
		}
		v.maxRange = powerOfTwo(min(max(memory/8, minRange), maxRange))
		v.maxAhead = memory / 2 // as much as the cache lets be on its way for it
		v.cache = cache.New(memory, minRange, v.maxRange, v.fetch)
	}
	return v, nil
}

// Close ends what is being read ahead and forgets what is cached. No read may
// be under way.
func (v *Volume) Close() {
	v.close()
	if v.cache != nil {
		v.cache.Close()
	}
}

// Manifest returns the tree. It is immutable.
func (v *Volume) Manifest() *format.Manifest { return v.manifest }

// fetch is the cache's way to the store.
func (v *Volume) fetch(ctx context.Context, object uint32, off int64, p []byte) error {
	o, err := v.object(object)
	if err != nil {
		return err
	}
	return paced{v.store, &v.pace}.Get(ctx, o.name, off, p)
}

// powerOfTwo rounds n, at least 1, down.
func powerOfTwo(n int64) int64 {
	p := int64(1)
	for p*2 <= n {
		p *= 2
	}
	return p
}

// bench is the memory one goroutine needs to open a run of segments: sealed
// bytes from a local store, and the plaintext of a segment that is wanted in
// part.
type bench struct {
	sealed [runSize]byte
	plain  [64 << 10]byte // the largest segment
}

var benches = sync.Pool{New: func() any { return new(bench) }}

// cores is how many goroutines open the segments of one read: Go's measure of
// the machine, or of its container, at the start. Package mount raises
// GOMAXPROCS later on, by goroutines that wait and need no core.
var cores = runtime.GOMAXPROCS(0)

func workers() int { return cores }
