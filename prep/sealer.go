package prep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"cloister/fs/format"
	"cloister/prep/tree"
)

// maxSealers bounds memory on machines of many cores: a sealer holds two
// objects, 64 MiB, and eight seal faster than any store takes.
const maxSealers = 8

// sealing reads, seals and puts planned objects: sealers read and seal, putters
// put. Each holds one sealed object at most, so memory is bounded by
// (2 × sealers + putters) × 32 MiB however large the folder is.
type sealing struct {
	ctx      context.Context
	store    Store
	volume   format.VolumeID
	key      *format.ObjectKey
	slot     uint32
	pad      bool
	from     *CSE // how the source is encrypted, or nil
	progress Progress

	group   *errgroup.Group
	planned chan *plannedObject
	sealed  chan sealedObject
	buffers chan []byte // for sealed bytes; a nil one is not allocated yet

	pending *pendingWriter

	mu       sync.Mutex               // guards all below
	objects  map[uint32]format.Object // by index, as far as put
	recorded []string                 // names of the pending records
}

type sealedObject struct {
	*plannedObject
	object format.Object
	bytes  []byte
}

// start starts the workers; ctx ends them.
func (s *sealing) start(ctx context.Context) {
	sealers := min(runtime.GOMAXPROCS(0), maxSealers)
	s.group, s.ctx = errgroup.WithContext(ctx)
	s.planned = make(chan *plannedObject)
	s.sealed = make(chan sealedObject)
	s.buffers = make(chan []byte, sealers+transfers)
	s.objects = map[uint32]format.Object{}
	for range cap(s.buffers) {
		s.buffers <- nil
	}
	var running sync.WaitGroup
	for range sealers {
		running.Add(1)
		s.group.Go(func() error {
			defer running.Done()
			return s.sealAll()
		})
	}
	for range transfers {
		s.group.Go(s.putAll)
	}
	go func() {
		running.Wait()
		close(s.sealed)
	}()
}

// add hands over a planned object, waiting until a worker takes it.
func (s *sealing) add(o *plannedObject) error {
	select {
	case s.planned <- o:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// finish waits until all that was added is in the store.
func (s *sealing) finish() error {
	close(s.planned)
	return s.group.Wait()
}

func (s *sealing) sealAll() error {
	var plain []byte
	defer func() { clear(plain) }()
	for o := range s.planned {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if int64(len(plain)) < o.length {
			clear(plain)
			plain = make([]byte, min(objectSpace, 2*o.length))
		}
		if err := s.read(plain, o.pieces); err != nil {
			return err
		}
		if err := s.seal(o, plain[:o.length]); err != nil {
			return err
		}
	}
	return nil
}

// seal seals an object whole, then hands it over: not a byte of it leaves
// before the last is sealed.
func (s *sealing) seal(o *plannedObject, plain []byte) error {
	var buffer []byte
	select {
	case buffer = <-s.buffers:
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	if need := suite.SealedLen(suite.PaddedPlainLen(o.length)); int64(cap(buffer)) < need {
		buffer = make([]byte, 0, min(format.WriteObject, 2*need))
	}
	id := format.Identity{Suite: suite, Kind: format.KindData, Slot: s.slot, Volume: s.volume, Object: format.NewObjectID()}
	sealed, header := format.SealData(buffer[:0], s.key, id, plain, s.pad)
	object := format.Object{ID: id.Object, Header: header, SealedLen: int64(len(sealed)), Key: s.slot}
	select {
	case s.sealed <- sealedObject{plannedObject: o, object: object, bytes: sealed}:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s *sealing) putAll() error {
	for o := range s.sealed {
		if err := s.put(o); err != nil {
			return err
		}
		s.buffers <- o.bytes
		s.progress.Done(o.length)
	}
	return nil
}

// put puts an object, and before it the record by which a later run finds it.
func (s *sealing) put(o sealedObject) error {
	sequence := uint64(o.index) + 1
	record, err := s.pending.seal(sequence, o.plannedObject, o.object)
	if err != nil {
		return fmt.Errorf("describing object %s: %w", o.object.ID, err)
	}
	name := format.PendingName(s.pending.preamble.Run, sequence)
	if record != nil {
		if err := s.store.Put(s.ctx, name, record); err != nil {
			return err
		}
	}
	if err := s.store.Put(s.ctx, format.ObjectName(o.object.ID), o.bytes); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[o.index] = o.object
	if record != nil {
		s.recorded = append(s.recorded, name)
	}
	return nil
}

// read fills plain from the source files and checks each file once its last
// byte was read.
func (s *sealing) read(plain []byte, pieces []piece) error {
	for i := 0; i < len(pieces); {
		n := 1
		for i+n < len(pieces) && pieces[i+n].path == pieces[i].path {
			n++
		}
		if err := s.readPieces(plain, pieces[i:i+n]); err != nil {
			return err
		}
		i += n
	}
	return nil
}

func (s *sealing) readPieces(plain []byte, pieces []piece) error {
	path := pieces[0].path
	f, err := tree.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range pieces {
		if err := s.readPiece(f, plain[p.objectOff:][:p.length], p); err != nil {
			return err
		}
	}
	return tree.Check(f, path, pieces[0].entry.Version)
}

func (s *sealing) readPiece(f *os.File, dst []byte, p piece) error {
	if s.from != nil {
		return s.from.readAt(f, p.path, dst, p.fileOff, int64(p.entry.Attr.Size))
	}
	_, err := f.ReadAt(dst, p.fileOff)
	if errors.Is(err, io.EOF) {
		return tree.Changed(p.path, "it has become shorter")
	}
	if err != nil {
		return tree.Explain("reading", p.path, err)
	}
	return nil
}
