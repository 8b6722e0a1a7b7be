package prep

import (
	"context"
	"errors"
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
	progress Progress

	group   *errgroup.Group
	planned chan *plannedObject
	sealed  chan sealedObject
	buffers chan []byte // for sealed bytes; a nil one is not allocated yet

	mu      sync.Mutex               // guards objects
	objects map[uint32]format.Object // by index, as far as put
}

type sealedObject struct {
	index  uint32
	object format.Object
	bytes  []byte
	plain  int64
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
		if err := read(plain, o.pieces); err != nil {
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
	case s.sealed <- sealedObject{index: o.index, object: object, bytes: sealed, plain: o.length}:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s *sealing) putAll() error {
	for o := range s.sealed {
		if err := s.store.Put(s.ctx, format.ObjectName(o.object.ID), o.bytes); err != nil {
			return err
		}
		s.buffers <- o.bytes
		s.progress.Done(o.plain)
		s.mu.Lock()
		s.objects[o.index] = o.object
		s.mu.Unlock()
	}
	return nil
}

// read fills plain from the source files and checks each file once its last
// byte was read.
func read(plain []byte, pieces []piece) error {
	for i := 0; i < len(pieces); {
		n := 1
		for i+n < len(pieces) && pieces[i+n].path == pieces[i].path {
			n++
		}
		if err := readPieces(plain, pieces[i:i+n]); err != nil {
			return err
		}
		i += n
	}
	return nil
}

func readPieces(plain []byte, pieces []piece) error {
	path := pieces[0].path
	f, err := tree.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range pieces {
		if err := readPiece(f, plain[p.objectOff:][:p.length], p); err != nil {
			return err
		}
	}
	return tree.Check(f, path, pieces[0].version)
}

func readPiece(f *os.File, dst []byte, p piece) error {
	_, err := f.ReadAt(dst, p.fileOff)
	if errors.Is(err, io.EOF) {
		return tree.Changed(p.path, "it has become shorter")
	}
	if err != nil {
		return tree.Explain("reading", p.path, err)
	}
	return nil
}
