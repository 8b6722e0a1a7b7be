package fs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// runSize is the most sealed bytes that are read and opened in one go: they
// stay in a core's second-level cache between the two, and a read of 1 MiB
// makes eight runs, enough to share among cores.
const runSize = 128 << 10

// run is consecutive segments of one object, within one aligned runSize, and
// the part of a reply they fill.
type run struct {
	object      *object
	first, last int64  // segments
	plainOff    int64  // of the object's plaintext, where dst begins
	dst         []byte // in the reply
	at          int    // where dst lies in the reply
}

// ReadAt fills p with the file's bytes from offset off, as io.ReaderAt does:
// n < len(p) comes with an error, which is io.EOF at the end of the file. With
// any other error the first n bytes are right. Damage is an error that wraps
// ErrDamaged, and concerns the bytes of its segment only.
func (f *File) ReadAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	if off < 0 || off >= f.size {
		return 0, io.EOF
	}
	if f.size-off < int64(len(p)) {
		p, err = p[:f.size-off], io.EOF
	}
	size := f.noteRead(off, int64(len(p)))
	began := time.Now()
	defer func() { f.v.counters.read(began, n) }()
	r := replies.Get().(*reply)
	defer r.release()
	if err := r.plan(f, p, off); err != nil {
		return 0, err
	}
	if fillErr := r.fill(ctx, f.v, size); fillErr != nil {
		var stop *stopError
		if errors.As(fillErr, &stop) {
			return stop.at, stop.err
		}
		return 0, fillErr
	}
	return len(p), err
}

// reply is the runs that fill a reply, ascending. It is kept from one read to
// the next: making one would be half of all the garbage of a small read.
type reply struct{ runs []run }

var replies = sync.Pool{New: func() any { return new(reply) }}

func (r *reply) release() {
	clear(r.runs) // they point into the caller's memory
	r.runs = r.runs[:0]
	replies.Put(r)
}

// fill fills the runs, on all cores if there are several.
func (r *reply) fill(ctx context.Context, v *Volume, size int64) error {
	if len(r.runs) == 1 {
		return v.fill(ctx, &r.runs[0], size)
	}
	_, err := parallel(len(r.runs), workers(), func(i int) error {
		return v.fill(ctx, &r.runs[i], size)
	})
	return err
}

// stopError is an error with the place in the reply from which on it is not
// filled.
type stopError struct {
	at  int
	err error
}

func (e *stopError) Error() string { return e.err.Error() }

// plan finds the runs that fill p from offset off of the file, and fills the
// holes.
func (r *reply) plan(f *File, p []byte, off int64) error {
	at := 0 // p is planned up to here
	for e := range f.v.manifest.Extents(f.inode, uint64(off)) {
		begin := max(int64(e.FileOff), off)
		end := min(int64(e.End()), off+int64(len(p)))
		if begin >= end {
			break
		}
		clear(p[at : begin-off])
		at = int(end - off)
		o, err := f.v.object(e.Object)
		if err != nil {
			return err
		}
		r.runs = appendRuns(r.runs, run{
			object: o, plainOff: int64(e.ObjectOff) + begin - int64(e.FileOff),
			dst: p[begin-off : at], at: int(begin - off),
		})
	}
	clear(p[at:])
	return nil
}

// appendRuns cuts a piece of one object into runs.
func appendRuns(runs []run, r run) []run {
	suite := r.object.opener.Suite()
	for len(r.dst) > 0 {
		r.first = suite.SegmentAt(r.plainOff)
		perRun := runSize / suite.SegmentSize()
		r.last = min((r.first/perRun+1)*perRun-1, suite.SegmentAt(r.plainOff+int64(len(r.dst))-1))
		n := min(suite.PlainStart(r.last+1)-r.plainOff, int64(len(r.dst)))
		head := r
		head.dst = r.dst[:n]
		runs = append(runs, head)
		r.dst, r.plainOff, r.at = r.dst[n:], r.plainOff+n, r.at+int(n)
	}
	return runs
}

// fill reads and opens a run, into the reply. size is that of the range to
// fetch from a store that is not local. An error is a stopError.
func (v *Volume) fill(ctx context.Context, r *run, size int64) error {
	b := benches.Get().(*bench)
	defer benches.Put(b)
	failed, err := v.get(ctx, r, b, size)
	if err != nil && (isDamage(err) && (v.cache != nil || r.last > r.first) || errors.Is(err, format.ErrAuthentication)) {
		// Some of it may be there: an object that ends early is damaged from
		// its end on, not from the beginning of the range that was asked for.
		// What does not open may be a damaged copy.
		failed, err = v.getOneByOne(ctx, r, b)
	}
	if err != nil {
		return r.stop(failed, err)
	}
	return nil
}

// get fills a run, and returns the segment that it failed at.
func (v *Volume) get(ctx context.Context, r *run, b *bench, size int64) (failed int64, err error) {
	if v.cache != nil {
		return v.getCached(ctx, r, b, size)
	}
	off, n := r.sealedRange()
	sealed := b.sealed[:n]
	if err := v.store.Get(ctx, r.object.name, off, sealed); err != nil {
		return r.first, err
	}
	return r.open(r.first, off, sealed, b)
}

// getCached fills a run from the ranges that hold it: one, or smaller ones that
// a random reader has left.
func (v *Volume) getCached(ctx context.Context, r *run, b *bench, size int64) (failed int64, err error) {
	suite, sealedLen := r.object.opener.Suite(), r.object.opener.SealedLen()
	for segment := r.first; segment <= r.last; {
		off, _ := suite.SealedRange(segment, sealedLen)
		got, err := v.cache.Get(ctx, r.object.index, off, size, sealedLen)
		if err != nil {
			return segment, err
		}
		next, err := r.open(segment, got.Off, got.Data, b)
		got.Release(r.sealed(segment, next))
		segment = next
		if err != nil {
			return segment, err
		}
	}
	return 0, nil
}

// getOneByOne fills a run a segment a request, past the cache, and past the
// store's own copies where a segment does not open.
func (v *Volume) getOneByOne(ctx context.Context, r *run, b *bench) (failed int64, err error) {
	suite, sealedLen := r.object.opener.Suite(), r.object.opener.SealedLen()
	for segment := r.first; segment <= r.last; segment++ {
		off, n := suite.SealedRange(segment, sealedLen)
		err := v.store.Get(ctx, r.object.name, off, b.sealed[:n])
		if err == nil {
			err = r.openSegment(b.sealed[:n], segment, b)
		}
		if errors.Is(err, format.ErrAuthentication) {
			if err = getFresh(ctx, v.store, r.object.name, off, b.sealed[:n]); err == nil {
				err = r.openSegment(b.sealed[:n], segment, b)
			}
		}
		if err != nil {
			return segment, err
		}
	}
	return 0, nil
}

// sealed returns how many sealed bytes the run wants of the segments from first
// on to before end.
func (r *run) sealed(first, end int64) int64 {
	suite := r.object.opener.Suite()
	from := max(suite.PlainStart(first), r.plainOff)
	to := min(suite.PlainStart(end), r.plainOff+int64(len(r.dst)))
	return suite.SealedOff(to) - suite.SealedOff(from)
}

func (r *run) sealedRange() (off, n int64) {
	suite, sealedLen := r.object.opener.Suite(), r.object.opener.SealedLen()
	off, _ = suite.SealedRange(r.first, sealedLen)
	lastOff, lastLen := suite.SealedRange(r.last, sealedLen)
	return off, lastOff + lastLen - off
}

// open opens the run's segments from the given one on, as far as they lie
// within sealed, which begins at offset start of the object. It returns the
// first segment it did not open.
func (r *run) open(segment, start int64, sealed []byte, b *bench) (next int64, err error) {
	suite, sealedLen := r.object.opener.Suite(), r.object.opener.SealedLen()
	for ; segment <= r.last; segment++ {
		off, n := suite.SealedRange(segment, sealedLen)
		if off+n > start+int64(len(sealed)) {
			return segment, nil
		}
		if err := r.openSegment(sealed[off-start:][:n], segment, b); err != nil {
			return segment, err
		}
	}
	return segment, nil
}

// openSegment opens a segment straight into the reply where the reply wants all
// of it, and through b where it wants a part.
func (r *run) openSegment(sealed []byte, segment int64, b *bench) error {
	o := r.object.opener
	begin := o.Suite().PlainStart(segment) - r.plainOff // in dst; the segment may begin before
	end := min(o.Suite().PlainStart(segment+1), o.PlainLen()) - r.plainOff
	if begin >= 0 && end <= int64(len(r.dst)) {
		_, err := o.OpenSegment(r.dst[begin:begin:end], sealed, segment)
		return err
	}
	plain, err := o.OpenSegment(b.plain[:0], sealed, segment)
	if err != nil {
		return err
	}
	copy(r.dst[max(begin, 0):], plain[max(-begin, 0):])
	return nil
}

// stop says that the reply is filled up to a segment only, and why: as damage
// where the store's answer is final.
func (r *run) stop(segment int64, err error) error {
	if errors.Is(err, format.ErrAuthentication) || isDamage(err) {
		err = &DamageError{Object: r.object.id, Segment: segment, Err: err}
	}
	at := max(r.object.opener.Suite().PlainStart(segment)-r.plainOff, 0)
	return &stopError{at: r.at + int(at), err: err}
}

// isDamage reports whether a store's error says that the bytes are not there,
// and not that it cannot say.
func isDamage(err error) bool {
	return fault.KindOf(err) != fault.Unavailable &&
		(errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.ErrUnexpectedEOF))
}
