package diskcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// A slab file holds an aligned 8 MiB of one object:
//
//	at     0   16   magic
//	at    16    8   for each of 128 blocks: u32 length ‖ u32 checksum
//	at  4096        block i at 4096 + i × 64 KiB
//
// Integers are little-endian. A block of length 0 is not there; one shorter
// than 64 KiB is the beginning of its 64 KiB, as at an object's end. The file is
// sparse. The checksum is CRC-32C over the object's name, the block's offset and
// length, and the bytes: it finds what a crash or a disk left, in a few percent
// of the time that opening the bytes takes, and does not try to find a forger.
const (
	magic = "CLOISTER CACHE 1"

	// blockSize and slabSize are the least and the largest range that a volume
	// fetches at a time.
	blockSize = 64 << 10
	slabSize  = 8 << 20

	tableOff   = len(magic)
	entrySize  = 8
	tableSize  = slabSize / blockSize * entrySize
	headerSize = 4 << 10

	maxOffset = math.MaxInt64 / 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// scratch has room for a block of which a part is wanted.
var scratch = sync.Pool{New: func() any { return new([blockSize]byte) }}

// touchEvery is how often a slab that is read is marked as used: a minute's
// difference in age decides nothing.
const touchEvery = time.Minute

// span is a range of an object, in bytes.
type span struct{ begin, end int64 }

func (s span) empty() bool { return s.begin >= s.end }

// join returns the least span that covers both.
func (s span) join(t span) span {
	switch {
	case s.empty():
		return t
	case t.empty():
		return s
	}
	return span{min(s.begin, t.begin), max(s.end, t.end)}
}

// inSlabs cuts p, an object's bytes from off, where slabs meet.
func inSlabs(off int64, p []byte) iter.Seq2[int64, []byte] {
	return func(yield func(int64, []byte) bool) {
		for len(p) > 0 {
			n := min(slabSize-off%slabSize, int64(len(p)))
			if !yield(off, p[:n]) {
				return
			}
			off, p = off+n, p[n:]
		}
	}
}

// slabs are the slab files of one object.
type slabs struct {
	name   string // of the object
	dir    string // below the cache's root
	making *sync.Mutex
}

func (o slabs) path(off int64) string {
	return fmt.Sprintf("%s/%016x", o.dir, off-off%slabSize)
}

// read fills p, within one slab, with the blocks that are there, and returns the
// span of those that are not.
func (o slabs) read(root *os.Root, off int64, p []byte) (missing span) {
	end := off + int64(len(p))
	f, err := openSlab(root, o.path(off), os.O_RDONLY)
	if err != nil {
		return span{off, end}
	}
	defer discard(f)
	var table [tableSize]byte
	if _, err := f.ReadAt(table[:], int64(tableOff)); err != nil {
		return span{off, end}
	}
	for at := off; at < end; {
		next := min(at-at%blockSize+blockSize, end)
		if !o.readBlock(f, table[:], at, p[at-off:next-off]) {
			missing = missing.join(span{at, next})
		}
		at = next
	}
	o.touch(root, f, off)
	return missing
}

// readBlock fills dst with a block's bytes from off, and reports whether they
// are there and right.
func (o slabs) readBlock(f *os.File, table []byte, off int64, dst []byte) bool {
	begin := off - off%blockSize
	length, sum := entry(table, begin)
	if length > blockSize || off-begin+int64(len(dst)) > length {
		return false
	}
	whole := dst
	if int64(len(dst)) != length {
		buf := scratch.Get().(*[blockSize]byte)
		defer scratch.Put(buf)
		whole = buf[:length]
	}
	if _, err := f.ReadAt(whole, blockOff(begin)); err != nil || o.checksum(begin, whole) != sum {
		return false
	}
	if int64(len(dst)) != length {
		copy(dst, whole[off-begin:])
	}
	return true
}

// touch marks a slab as used just now, for the eviction.
func (o slabs) touch(root *os.Root, f *os.File, off int64) {
	if info, err := f.Stat(); err == nil && time.Since(info.ModTime()) > touchEvery {
		now := time.Now()
		_ = root.Chtimes(o.path(off), now, now)
	}
}

// write puts the blocks that begin within p, bytes of one slab from off, into
// its file: first the bytes, then what says that they are there.
func (o slabs) write(root *os.Root, off int64, p []byte) error {
	begin := (off + blockSize - 1) / blockSize * blockSize
	if begin >= off+int64(len(p)) {
		return nil
	}
	p = p[begin-off:]
	f, err := o.open(root, o.path(begin))
	if err != nil {
		return err
	}
	defer discard(f)
	if _, err := f.WriteAt(p, blockOff(begin)); err != nil {
		return err
	}
	_, err = f.WriteAt(o.entries(begin, p), entryOff(begin))
	return err
}

func (o slabs) entries(begin int64, p []byte) (table []byte) {
	for len(p) > 0 {
		block := p[:min(blockSize, len(p))]
		table = binary.LittleEndian.AppendUint32(table, uint32(len(block)))
		table = binary.LittleEndian.AppendUint32(table, o.checksum(begin, block))
		begin, p = begin+blockSize, p[len(block):]
	}
	return table
}

// clear takes the blocks that overlap a span of one slab out of its file; where
// that fails they stay, and are found wrong again.
func (o slabs) clear(root *os.Root, off int64, s span) {
	f, err := openSlab(root, o.path(off), os.O_RDWR)
	if err != nil || s.empty() {
		return
	}
	defer discard(f)
	first, last := entryOff(s.begin), entryOff(s.end-1)
	_, _ = f.WriteAt(make([]byte, last-first+entrySize), first)
}

func (o slabs) checksum(begin int64, block []byte) uint32 {
	var place [12]byte
	binary.LittleEndian.PutUint64(place[:], uint64(begin))
	binary.LittleEndian.PutUint32(place[8:], uint32(len(block)))
	sum := crc32.Update(0, castagnoli, []byte(o.name))
	return crc32.Update(crc32.Update(sum, castagnoli, place[:]), castagnoli, block)
}

func entry(table []byte, off int64) (length int64, sum uint32) {
	e := table[entryOff(off)-int64(tableOff):]
	return int64(binary.LittleEndian.Uint32(e)), binary.LittleEndian.Uint32(e[4:])
}

// entryOff and blockOff are where the file of off's slab has the entry of off's
// block and its bytes.
func entryOff(off int64) int64 { return int64(tableOff) + off%slabSize/blockSize*entrySize }
func blockOff(off int64) int64 { return headerSize + off%slabSize/blockSize*blockSize }

// errForeign is what a file is that this package has not made.
var errForeign = errors.New("not a slab file")

// openSlab opens a slab file that is there, and no other kind of file.
func openSlab(root *os.Root, path string, flags int) (*os.File, error) {
	f, err := root.OpenFile(path, flags|openFlags, 0)
	if err != nil {
		return nil, err
	}
	if err := checkSlab(f); err != nil {
		discard(f)
		return nil, err
	}
	return f, nil
}

func checkSlab(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errForeign
	}
	var begin [len(magic)]byte
	if _, err := f.ReadAt(begin[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if string(begin[:]) != magic {
		return errForeign
	}
	return nil
}

// open opens a slab file for writing, made where there is none. Of this process
// one goroutine makes files at a time: another one would take a file that has
// no magic yet for a foreign one.
func (o slabs) open(root *os.Root, path string) (*os.File, error) {
	if f, err := openSlab(root, path, os.O_RDWR); err == nil {
		return f, nil
	}
	o.making.Lock()
	defer o.making.Unlock()
	return makeSlab(root, path)
}

// makeSlab opens a slab file, or makes it. A foreign file in its place, or one
// whose maker was killed at once, is removed and not written to; whoever still
// writes to that writes to nothing.
func makeSlab(root *os.Root, path string) (*os.File, error) {
	f, err := openSlab(root, path, os.O_RDWR)
	if err == nil {
		return f, nil
	}
	if isForeign(root, path, err) {
		err = root.RemoveAll(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return createSlab(root, path)
}

// isForeign reports whether err, of opening a slab file, means that something
// else has its name.
func isForeign(root *os.Root, path string, err error) bool {
	if errors.Is(err, fs.ErrNotExist) {
		_, err := root.Readlink(path)
		return err == nil // a link to nothing
	}
	return errors.Is(err, errForeign) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ELOOP)
}

func createSlab(root *os.Root, path string) (*os.File, error) {
	const create = os.O_RDWR | os.O_CREATE | os.O_EXCL
	f, err := root.OpenFile(path, create, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = root.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		f, err = root.OpenFile(path, create, 0o600)
	}
	if errors.Is(err, fs.ErrExist) { // another process was faster
		return openSlab(root, path, os.O_RDWR)
	}
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteAt([]byte(magic), 0); err != nil {
		discard(f)
		return nil, err
	}
	return f, nil
}
