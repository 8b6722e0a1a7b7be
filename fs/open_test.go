package fs_test

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"sync"
	"testing"

	"cloister/fs"
	"cloister/fs/format"
	"cloister/fs/internal/voltest"
	"cloister/fs/store/storetest"
)

// counted is a store that counts what is asked of it.
type counted struct {
	storetest.Store
	mu    sync.Mutex // guards all below
	sizes int
	lists int
	gets  int
	bytes int64
}

func (c *counted) Get(ctx context.Context, name string, off int64, p []byte) error {
	c.mu.Lock()
	c.gets++
	c.bytes += int64(len(p))
	c.mu.Unlock()
	return c.Store.Get(ctx, name, off, p)
}

func (c *counted) Size(ctx context.Context, name string) (int64, error) {
	c.mu.Lock()
	c.sizes++
	c.mu.Unlock()
	return c.Store.Size(ctx, name)
}

func (c *counted) List(ctx context.Context, prefix string) iter.Seq2[fs.Entry, error] {
	c.mu.Lock()
	c.lists++
	c.mu.Unlock()
	return c.Store.List(ctx, prefix)
}

// manyFiles is a volume of 20,000 empty files: a manifest of more than 1 MiB,
// and no data object.
func manyFiles(t *testing.T) (*voltest.Volume, *storetest.Memory, format.Reference) {
	v, store := voltest.New(), new(storetest.Memory)
	for i := range 20_000 {
		v.File(fmt.Sprintf("file-%07d", i), nil)
	}
	return v, store, v.Write(t, store)
}

// Opening costs one download of the manifest and nothing else: its length is
// asked for, and, where no reference names the epoch, which the newest is.
func TestOpeningIsOneDownload(t *testing.T) {
	v, memory, ref := manyFiles(t)
	size, err := memory.Size(t.Context(), format.ManifestName(ref.Epoch))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []fs.Options{{}, {Reference: &ref}} {
		s := &counted{Store: memory}
		open(t, s, v, o)
		if s.gets != 1 || s.bytes != size {
			t.Errorf("%d downloads of %d bytes in all, want one of %d", s.gets, s.bytes, size)
		}
		lists := 1
		if o.Reference != nil {
			lists = 0
		}
		if s.lists != lists || s.sizes > 2 {
			t.Errorf("%d listings and %d questions for a length, want %d and at most 2", s.lists, s.sizes, lists)
		}
	}
}

// The manifest of many files is held once, and where the collector does not let
// garbage grow in proportion to it. (Systems without mappings are not mounted
// on.)
func TestManifestIsNotOnTheHeap(t *testing.T) {
	v, memory, _ := manyFiles(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	volume := open(t, memory, v, fs.Options{})
	runtime.GC()
	runtime.ReadMemStats(&after)
	if volume.Manifest().Inodes() != 20_001 {
		t.Fatalf("%d inodes", volume.Manifest().Inodes())
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 256<<10 {
		t.Errorf("the heap grew by %d bytes, that is %d a file", grown, grown/20_000)
	}
}
