package fs

import (
	"context"
	"fmt"
	"sync/atomic"

	"cloister/fs/format"
)

type opener struct{ p atomic.Pointer[format.Opener] }

// readObject fills dst with bytes of an object's plaintext.
func (o *Output) readObject(ctx context.Context, obj *object, off int64, dst []byte) error {
	if err := o.readSegments(ctx, obj, off, dst); err != nil {
		return fmt.Errorf("reading object %s: %w", obj.name, err)
	}
	return nil
}

func (o *Output) readSegments(ctx context.Context, obj *object, off int64, dst []byte) error {
	open, err := o.opener(obj)
	if err != nil {
		return err
	}
	suite := open.Suite()
	first, last := suite.SegmentAt(off), suite.SegmentAt(off+int64(len(dst))-1)
	begin, _ := suite.SealedRange(first, obj.SealedLen)
	lastOff, lastLen := suite.SealedRange(last, obj.SealedLen)
	sealed := make([]byte, lastOff+lastLen-begin)
	if err := o.store.Get(ctx, obj.name, begin, sealed); err != nil {
		return err
	}
	for segment := first; segment <= last; segment++ {
		_, n := suite.SealedRange(segment, obj.SealedLen)
		plain, err := open.OpenSegment(sealed[:0:n], sealed[:n], segment)
		if err != nil {
			return err
		}
		start := suite.PlainStart(segment)
		skip := max(0, off-start)
		copied := copy(dst, plain[skip:])
		dst, off = dst[copied:], off+int64(copied)
		sealed = sealed[n:]
	}
	return nil
}

func (o *Output) opener(obj *object) (*format.Opener, error) {
	if open := obj.opener.p.Load(); open != nil {
		return open, nil
	}
	k := o.tree.keys[obj.Key]
	id := format.Identity{Suite: k.Suite, Kind: format.KindData, Slot: k.Slot, Volume: k.Origin, Object: obj.ID}
	open, err := format.NewOpener(k.Key, id, obj.Header, obj.SealedLen)
	if err == nil {
		obj.opener.p.Store(open)
	}
	return open, err
}
