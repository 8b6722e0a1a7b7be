package prep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"cloister/fs/format"
)

// object is a data object as a manifest pins it.
type object struct {
	name   string
	id     format.ObjectID
	header format.Header
	length int64 // sealed
	opener *format.Opener
}

func newObject(m *format.Manifest, index uint32) (*object, error) {
	o := m.Object(index)
	opener, err := m.NewOpener(o)
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", o.ID, err)
	}
	return &object{name: m.ObjectName(o), id: o.ID, header: o.Header, length: o.SealedLen, opener: opener}, nil
}

// errHeader is what a stream that does not begin with the pinned header is
// refused with.
var errHeader = fmt.Errorf("%w: its header is not the one in the manifest", format.ErrAuthentication)

// open fetches an object, a window at a time, and opens its segments in order.
// each is called for every segment with its plaintext, in the buffer's memory,
// or with the reason why it does not open; an error of each's, or of the
// store's, ends it. buffer is of windowOf's
// size.
func (o *object) open(ctx context.Context, s Store, buffer []byte, each func(segment, plainOff int64, plain []byte, err error) error) error {
	suite := o.opener.Suite()
	perWindow := window / suite.SegmentSize()
	for first := int64(0); first < suite.Segments(o.length); first += perWindow {
		off := first * suite.SegmentSize()
		sealed := buffer[:min(window, o.length-off)]
		if err := s.Get(ctx, o.name, off, sealed); err != nil {
			return err
		}
		begin := first
		if first == 0 && !bytes.HasPrefix(sealed, o.header[:]) {
			if err := each(0, 0, nil, errHeader); err != nil {
				return err
			}
			begin = 1
		}
		for i := begin; i < min(first+perWindow, suite.Segments(o.length)); i++ {
			at, n := suite.SealedRange(i, o.length)
			segment := sealed[at-off:][:n]
			plain, err := o.opener.OpenSegment(segment[:0], segment, i)
			if err := each(i, suite.PlainStart(i), plain, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// readRange fetches and opens the segments that hold n bytes of plaintext from
// off, and returns those.
func (o *object) readRange(ctx context.Context, s Store, off, n int64) ([]byte, error) {
	suite := o.opener.Suite()
	first, last := suite.SegmentAt(off), suite.SegmentAt(off+n-1)
	begin, _ := suite.SealedRange(first, o.length)
	lastOff, lastLen := suite.SealedRange(last, o.length)
	sealed := make([]byte, lastOff+lastLen-begin)
	if err := s.Get(ctx, o.name, begin, sealed); err != nil {
		return nil, err
	}
	plain := make([]byte, 0, len(sealed))
	for i := first; i <= last; i++ {
		at, length := suite.SealedRange(i, o.length)
		var err error
		if plain, err = o.opener.OpenSegment(plain, sealed[at-begin:][:length], i); err != nil {
			return nil, err
		}
	}
	return plain[off-suite.PlainStart(first):][:n], nil
}

// windowOf returns how large a buffer for open must be for all objects of a
// manifest, in bytes.
func windowOf(m *format.Manifest) int64 {
	longest := int64(0)
	for i := range uint32(m.Objects()) {
		longest = max(longest, m.Object(i).SealedLen)
	}
	return min(window, longest)
}

// isDamage reports whether an error says something of the object's bytes, and
// not of the way to them: it is missing, too short, or does not open.
func isDamage(err error) bool {
	return isMissing(err) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, format.ErrAuthentication) || errors.Is(err, format.ErrMalformed)
}
