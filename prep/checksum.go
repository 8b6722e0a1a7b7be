package prep

import (
	"bytes"
	"errors"
	"io"
	"os"

	"cloister/fs/format"
	"cloister/prep/tree"
)

// sameBytes compares a file with what the previous epoch holds of it, which it
// fetches and opens: a digest of the plaintext is kept nowhere. What does not
// open is not the same, and is sealed again.
func (k *walker) sameBytes(path string, e *tree.Entry, prev uint32) (same bool, err error) {
	f, err := tree.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	at := int64(0)
	for x := range k.reused.manifest.Extents(prev, 0) {
		if same, err = zeros(f, path, at, int64(x.FileOff)); same && err == nil {
			same, err = k.sameExtent(f, path, x)
		}
		if err != nil || !same {
			return false, err
		}
		at = int64(x.End())
	}
	if same, err = zeros(f, path, at, int64(e.Attr.Size)); err != nil || !same {
		return false, err
	}
	return true, tree.Check(f, path, e.Version)
}

// compared is how much is compared at a time, in bytes.
const compared = 1 << 20

func (k *walker) sameExtent(f *os.File, path string, x format.Extent) (bool, error) {
	o, err := newObject(k.reused.manifest, x.Object)
	if err != nil {
		return false, err
	}
	for off, end := int64(x.ObjectOff), int64(x.ObjectOff)+int64(x.Length); off < end; {
		n := min(compared, end-off)
		was, err := o.readRange(k.sealing.ctx, k.store, off, n)
		if err != nil && isDamage(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		is, err := readAt(f, path, int64(x.FileOff)+off-int64(x.ObjectOff), n)
		if err != nil || !bytes.Equal(was, is) {
			return false, err
		}
		off += n
	}
	return true, nil
}

// zeros reports whether a file is zeros from one offset to another: where an
// epoch has a hole, the file may hold zeros by now.
func zeros(f *os.File, path string, from, to int64) (bool, error) {
	zero := make([]byte, min(compared, max(0, to-from)))
	for from < to {
		n := min(compared, to-from)
		is, err := readAt(f, path, from, n)
		if err != nil || !bytes.Equal(is, zero[:n]) {
			return false, err
		}
		from += n
	}
	return true, nil
}

func readAt(f *os.File, path string, off, n int64) ([]byte, error) {
	p := make([]byte, n)
	_, err := f.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		return nil, tree.Changed(path, "it has become shorter")
	}
	if err != nil {
		return nil, tree.Explain("reading", path, err)
	}
	return p, nil
}
