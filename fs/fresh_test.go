package fs_test

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"

	"cloister/fs"
	"cloister/fs/internal/voltest"
	"cloister/fs/store/storetest"
)

// copies is a store whose copies of data objects are all damaged, and which has
// the right bytes for whoever asks past them.
type copies struct {
	memory
	fresh atomic.Int32
}

func (c *copies) Get(ctx context.Context, name string, off int64, p []byte) error {
	err := c.memory.Get(ctx, name, off, p)
	if err == nil && name[:4] == "data" {
		p[len(p)/2] ^= 1
	}
	return err
}

func (c *copies) Fresh(ctx context.Context, name string, off int64, p []byte) error {
	c.fresh.Add(1)
	return c.memory.Get(ctx, name, off, p)
}

// TestDamagedCopies: a copy that does not open is not a damaged volume.
func TestDamagedCopies(t *testing.T) {
	for _, local := range []bool{true, false} {
		m := voltest.New()
		want := pattern(3<<20+5, 1)
		m.File("file", want)
		s := &copies{memory: memory{&storetest.Memory{}, local}}
		m.Write(t, s.memory)
		v := open(t, s, m, fs.Options{})
		f := v.Open(m.Inode("file"))
		defer f.Close()
		got := make([]byte, len(want))
		if n, err := f.ReadAt(t.Context(), got, 0); err != nil || !bytes.Equal(got, want) || s.fresh.Load() == 0 {
			t.Errorf("local %v: %d bytes, %v, after %d reads past the copies", local, n, err, s.fresh.Load())
		}
	}
}
