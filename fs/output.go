package fs

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// OutputStore is where an output volume lives. Put makes an object whole or
// not at all, and only under a name that is free: an error of kind
// fault.Conflict says it is not. Get and Size of an object that is not there
// fail with fault.NotFound; Delete of one succeeds.
type OutputStore interface {
	Store
	Put(ctx context.Context, name string, data []byte) error
	Delete(ctx context.Context, name string) error
}

// Head is how far a journal has come: what is told to somebody who remembers
// it, so that a store cannot withhold the tail unnoticed. Sequence 0 is the
// manifest of the epoch itself.
type Head struct {
	Epoch    uint64
	Sequence uint64
	Digest   format.Digest
}

// OutputOptions are what can be chosen about an output volume. The zero value
// opens one that exists.
type OutputOptions struct {
	Reference  *format.Reference   // the manifest to build on; nil: the newest there is
	Head       *Head               // the journal must have come this far; nil: not checked
	Create     bool                // make the volume where there is none
	Volume     format.VolumeID     // of a new volume; zero: random. Of another: checked
	KeyVersion uint32              // of a new volume; 0: 1
	Recipients []*format.Recipient // who else can open what is written; nil: those of the volume, if any
	Root       format.Attr         // permissions and owner of a new volume's root; mode 0: 0755
	MaxSize    int64               // bytes that the files may have, in whole pages of 4 KiB, holes not counted; 0: no limit
	Memory     int64               // bytes for dirty data, its sealed copies and what is read back; 0: DefaultMemory
	SyncClose  bool                // close returns when the file is durable
	AtEnd      bool                // nothing goes to the store before Close, and then padded; Memory bounds what is written
	Clock      func() time.Time    // for times of files; nil: time.Now
	Log        *slog.Logger        // for flushes that fail with nobody waiting; nil: none

	recoverOnly  bool // claim no epoch
	noBackground bool // tests: nothing is flushed that nobody asked for
}

const (
	// CloseWithin is the promise: what was closed is durable after it, if the
	// store takes requests in the time it usually does.
	CloseWithin = time.Second
	// closeDelay is how long a closed file or a changed name waits for others
	// to share its requests. It leaves three quarters of CloseWithin to the
	// store.
	closeDelay = CloseWithin / 4
	// openDelay is how long what was written to a file that stays open waits;
	// Linux's ext4 commits after 5 s.
	openDelay = 5 * time.Second

	minMemory = 8 << 20
)

// ErrFenced is what a writer is refused with whose volume another writer has
// taken over.
var ErrFenced = fault.Sentinel(fault.Conflict, "another writer has taken the output volume over")

// Output is a volume being written: a POSIX file system without FUSE. All
// methods may be called from any number of goroutines. What they refuse, they
// refuse with a syscall.Errno, which errors.Is and errors.As find in every
// error returned; where a store or a seal is the cause, that is wrapped beside
// it.
//
// Life of a write: the bytes go into dirty pages of the file, in memory. A
// flush (fsync, the background after a close, or too little memory) freezes
// the pages, packs them into data objects, seals and puts those, and points
// the file's extents at them. A commit then puts one journal record with every
// change of names and attributes up to the moment of freezing, and with it
// what fsync promised is durable. Close folds all into a manifest.
//
// A commit covers the files it is asked for, and files that got a new name,
// so that "write beside, rename over" is never seen with the name and without
// the bytes. Other dirty files wait for their turn; they are as they last were.
//
// Promises, and the tests that keep them: what Sync, SyncDir and, with
// SyncClose, Flush returned nil for is in the store and survives kill -9
// (TestOutputCrashMatrix, and through the kernel TestOutputKilledAtEveryRequest).
// Without SyncClose what was closed is durable within CloseWithin, and what
// was written to an open file within openDelay; each file has a time of its
// own, and what is due together shares requests. A flush that fails is told to
// every file open at the time, once, as EIO; its bytes stay and are tried
// again, and Close fails while any are left. Who closed the file before is told
// by nobody but Failed, which therefore names a failure also when all is
// durable since (TestOutputFailed, and through the kernel
// TestOutputStoreFails). sync(2) and syncfs(2) promise nothing: FUSE is never
// told of them.
//
// Locks: mu guards the tree, all nodes, and every field up to the line in
// Output. It is never held while the store is called. One goroutine, run,
// does all flushing, and owns the fields below the line.
type Output struct {
	store OutputStore
	key   *format.DEK
	opts  OutputOptions
	limit int // pages
	// streamed is from how many bytes, written one behind the other, a file is
	// staged while memory is not short: those of a full object.
	streamed int64

	mu       sync.Mutex
	tree     *tree
	pool     pages
	used     int64              // by files: what MaxSize bounds
	changed  map[*node]bool     // since the last commit
	names    map[nameKey]uint32 // the inode the journal has there; 0: none
	waiting  []*waiter
	due      time.Time     // of the next background commit, the earliest of the nodes'; zero: none
	hungry   bool          // memory is short, or a stream long enough: stage
	progress chan struct{} // closed and replaced when a flush ends or frees memory
	starved  int           // stagings that failed
	written  uint64        // bytes, by programs
	failed   int           // flushes that failed, stagings among them
	failure  error         // the first of them
	dead     error         // this writer can make nothing durable any more
	closing  bool
	head     Head

	wake    chan struct{} // capacity 1
	stopped chan struct{}
	stop    context.CancelFunc

	// ---- run's own
	preamble  format.Preamble  // of the next record
	base      format.Digest    // of the manifest this epoch builds on
	reference format.Reference // of that
	pending   []*pendingRecord // sealed, and not known to be in the store
	settled   time.Time        // when a record was last known to be there
	sealKey   *format.ObjectKey
	slot      uint32            // of the object key that this run seals with
	put       []format.ObjectID // tried in this epoch
	settling  []*node           // frozen, in records that may not be in the store yet
	backoff   time.Duration
	sweep     bool // an earlier writer may have left objects
	recovered *Recovery
	sealers   chan *sealer
	reader    reader // has its own locks
}

type nameKey struct {
	dir  uint32
	name string
}

type waiter struct {
	node *node // nil: everything
	done chan error
}

// OpenOutput opens the output volume in store for writing, recovers what a
// killed writer left there, and claims the next epoch: a writer that is still
// at it fails from then on.
func OpenOutput(ctx context.Context, store OutputStore, key KeyFunc, opts OutputOptions) (*Output, error) {
	o, err := newOutput(ctx, store, key, opts)
	if err != nil {
		return nil, err
	}
	o.openReader()
	run, stop := context.WithCancel(context.Background())
	o.stop = stop
	go o.run(run)
	return o, nil
}

// Recover folds the journal that a writer of the output volume in store left
// behind into a manifest, as OpenOutput does, and returns what it found, or nil
// if the volume was closed, and the reference of its newest epoch. A writer
// that is still at it fails from then on. What the journal needed and the
// manifest does not is removed by the next writer that closes the volume.
func Recover(ctx context.Context, store OutputStore, key KeyFunc, opts OutputOptions) (*Recovery, format.Reference, error) {
	opts.Create, opts.recoverOnly = false, true
	o, err := newOutput(ctx, store, key, opts)
	if err != nil {
		return nil, format.Reference{}, err
	}
	defer o.destroy()
	return o.recovered, o.reference, nil
}

// newOutput opens an output volume without serving it yet.
func newOutput(ctx context.Context, store OutputStore, key KeyFunc, opts OutputOptions) (*Output, error) {
	if opts.Memory == 0 {
		opts.Memory = DefaultMemory
	}
	opts.Memory = max(opts.Memory, minMemory)
	opts.noBackground = opts.noBackground || opts.AtEnd
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	o := &Output{
		store: store, opts: opts,
		changed: map[*node]bool{}, names: map[nameKey]uint32{}, progress: make(chan struct{}),
		wake: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	if err := o.open(ctx, key); err != nil {
		o.destroy()
		return nil, fmt.Errorf("opening output volume %s: %w", store, err)
	}
	return o, nil
}

// Volume returns the volume's id.
func (o *Output) Volume() format.VolumeID { return o.tree.volume }

// Recovered says what was found of a writer that did not close the volume, or
// nil.
func (o *Output) Recovered() *Recovery { return o.recovered }

// Head returns how far the journal has come.
func (o *Output) Head() Head {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.head
}

func (o *Output) destroy() {
	o.reader.close()
	if o.key != nil {
		o.key.Destroy()
	}
	if o.tree != nil {
		o.tree.destroy()
	}
	o.pool.destroy()
}

// now returns the time for attributes.
func (o *Output) now() format.Time {
	t := o.opts.Clock()
	return format.Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}

// ioError is EIO with its cause.
func ioError(cause error) error { return fmt.Errorf("%w: %w", syscall.EIO, cause) }

// touch notes that an inode changed, and sees to it that the change is
// committed after delay at the latest.
func (o *Output) touch(n *node, delay time.Duration) {
	o.changed[n] = true
	if at := time.Now().Add(delay); n.due.IsZero() || at.Before(n.due) {
		n.due = at
		o.dueAt(at)
	}
}

// willName notes that a name is about to change.
func (o *Output) willName(dir *node, name string) {
	k := nameKey{dir.inode, name}
	if _, ok := o.names[k]; !ok {
		o.names[k] = dir.dir.get(name)
	}
}

// dueAt sees to a background commit at a time at the latest.
func (o *Output) dueAt(at time.Time) {
	if o.due.IsZero() || at.Before(o.due) {
		o.due = at
		o.kick()
	}
}

func (o *Output) kick() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// proceed wakes those who wait for memory.
func (o *Output) proceed() {
	close(o.progress)
	o.progress = make(chan struct{})
}
