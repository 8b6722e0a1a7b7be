package fs

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"syscall"
	"testing"

	"cloister/fs/format"
	"cloister/fs/store/storetest"
	"cloister/internal/fault"
)

// shape is what a store sees of calls: which, of what kind of object, of which
// length. Names of data are random.
func shape(calls []storetest.Call) (lines []string) {
	for _, c := range calls {
		name := c.Name
		if dir := path.Dir(name); dir == "data" || len(name) > 40 {
			name = dir + "/..."
		}
		lines = append(lines, fmt.Sprintf("%s %s %d+%d", c.Op, name, c.Off, c.Len))
	}
	return lines
}

// TestAtEndShowsNothing: whatever is written, in however many files, and synced
// or not, the store is asked the same until the end; and then it is sent the same
// too, as far as sizes go, up to a power of two.
func TestAtEndShowsNothing(t *testing.T) {
	for name, works := range map[string]map[string]func(t *testing.T, o *Output){
		"small": {
			"a byte":  func(t *testing.T, o *Output) { writeAt(t, create(t, o, "a"), []byte{1}, 0) },
			"a table": func(t *testing.T, o *Output) { writeAt(t, create(t, o, "a"), randomBytes(1, 50_000), 0) },
			"many files, synced": func(t *testing.T, o *Output) {
				for i := range 100 {
					f := create(t, o, fmt.Sprint("a-long-name-of-a-file-", i))
					writeAt(t, f, []byte("some text"), int64(i))
					check(t, f.Flush(ctx))
					check(t, f.Sync(ctx))
				}
				check(t, o.SyncDir(ctx, format.RootInode))
			},
			"over and over": func(t *testing.T, o *Output) {
				f := create(t, o, "a")
				for i := range 50 {
					writeAt(t, f, randomBytes(uint64(i), 40_000), 0)
					check(t, f.Sync(ctx))
				}
				check(t, o.Rename(format.RootInode, "a", format.RootInode, "b", 0))
			},
		},
		"large": {
			"just above": func(t *testing.T, o *Output) { writeAt(t, create(t, o, "a"), randomBytes(1, 17<<20), 0) },
			"just below": func(t *testing.T, o *Output) {
				for i := range 15 {
					f := create(t, o, fmt.Sprint(i))
					writeAt(t, f, randomBytes(1, 2<<20), 0)
					check(t, f.Sync(ctx))
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var opening, all []string
			for what, work := range works {
				memory := &storetest.Memory{}
				store := &storetest.Faulty{Store: memory}
				o := mustOpen(t, store, OutputOptions{AtEnd: true, Memory: 64 << 20, Volume: format.VolumeID{1}})
				before := shape(store.Calls())
				work(t, o)
				o.flush(ctx) // what the background would do
				if now := shape(store.Calls()); !slices.Equal(now, before) {
					t.Errorf("%s: before the end the store was asked %q", what, now[len(before):])
				}
				ref := mustClose(t, o)
				after := shape(store.Calls())
				if opening == nil {
					opening, all = before, after
				}
				if !slices.Equal(before, opening) || !slices.Equal(after, all) {
					t.Errorf("%s: the store saw %q, and before %q", what, after, all)
				}
				sizes(t, memory)
				if _, err := Open(ctx, memory, testKey, Options{Reference: &ref}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// sizes wants all that is in a store to be of sizes that are powers of two.
func sizes(t *testing.T, store *storetest.Memory) {
	t.Helper()
	for e, err := range store.List(ctx, "") {
		check(t, err)
		sealed := e.Size
		if path.Dir(e.Name) != "data" {
			sealed -= preambleOf(t, store, e.Name)
		}
		if sealed < leastAtEnd || sealed&(sealed-1) != 0 {
			t.Errorf("%s has %d bytes, of which %d sealed", e.Name, e.Size, sealed)
		}
	}
}

// preambleOf is how long the clear part of a manifest is.
func preambleOf(t *testing.T, store *storetest.Memory, name string) int64 {
	t.Helper()
	sealed, err := readWhole(ctx, store, name, format.MaxSealedManifest)
	check(t, err)
	_, n, err := format.ParsePreamble(sealed)
	check(t, err)
	return int64(n)
}

// TestAtEndSizes: objects hold what they are to hold, and are no more than twice
// as much, from the least on.
func TestAtEndSizes(t *testing.T) {
	for n := int64(1); n < 1<<42; n = n*5/4 + 1 {
		objects, sealedLen := atEndSizes(n)
		plain, ok := format.Suite16K.PlainLen(sealedLen)
		switch {
		case !ok || sealedLen < leastAtEnd || sealedLen > mostAtEnd:
			t.Fatalf("%d bytes go into objects of %d", n, sealedLen)
		case objects*(plain-pageSize) < n:
			t.Fatalf("%d bytes do not fit %d objects of %d", n, objects, sealedLen)
		case sealedLen > leastAtEnd && objects*sealedLen > 3*n: // pages that are not full, and tags, on top of the double
			t.Fatalf("%d bytes go into %d objects of %d", n, objects, sealedLen)
		case objects > 1 && sealedLen != mostAtEnd:
			t.Fatalf("%d bytes go into %d objects, of %d only", n, objects, sealedLen)
		}
	}
}

// TestAtEndContent: what was written is there, and what a later run reads of it,
// and changes, does not show before its end.
func TestAtEndContent(t *testing.T) {
	memory := &storetest.Memory{}
	opts := OutputOptions{AtEnd: true, Memory: 64 << 20}
	o := mustOpen(t, memory, opts)
	large, sparse := randomBytes(1, 20<<20), make([]byte, 1<<20)
	copy(sparse[700_000:], "in the middle")
	writeAt(t, create(t, o, "large"), large, 0)
	f := create(t, o, "sparse")
	writeAt(t, f, []byte("in the middle"), 700_000)
	check(t, f.Truncate(1<<20))
	for i := range 300 {
		writeAt(t, create(t, o, fmt.Sprint(i)), []byte(fmt.Sprint("file ", i)), 0)
	}
	mustClose(t, o)

	store := &storetest.Faulty{Store: memory}
	o = mustOpen(t, store, opts)
	before := len(store.Calls())
	if !bytes.Equal(content(t, o, "large"), large) || !bytes.Equal(content(t, o, "sparse"), sparse) {
		t.Error("a file is not as it was written")
	}
	for i := range 300 {
		if got := string(content(t, o, fmt.Sprint(i))); got != fmt.Sprint("file ", i) {
			t.Errorf("file %d is %q", i, got)
		}
	}
	i := must[Info](t)(o.Lookup(format.RootInode, "large"))
	f = must[*OutputFile](t)(o.Open(i.Inode))
	writeAt(t, f, []byte("changed"), 5)
	copy(large[5:], "changed")
	if calls := store.Calls(); len(calls) != before {
		t.Errorf("before the end the store was asked %q", shape(calls[before:]))
	}
	mustClose(t, o)
	o = mustOpen(t, memory, opts)
	if !bytes.Equal(content(t, o, "large"), large) {
		t.Error("the change is not there")
	}
	mustClose(t, o)
}

// TestAtEndIsBounded: what does not fit is ENOSPC, and what fits is kept; and old
// content that does not fit is refused with both figures.
func TestAtEndIsBounded(t *testing.T) {
	store := &storetest.Memory{}
	o := mustOpen(t, store, OutputOptions{AtEnd: true, Memory: 24 << 20})
	f, written := create(t, o, "f"), 0
	chunk := randomBytes(1, 1<<20)
	var err error
	for n := 0; err == nil && written < 24<<20; written += n {
		n, err = f.WriteAt(ctx, chunk, int64(written))
	}
	if err != syscall.ENOSPC || written < 12<<20 {
		t.Errorf("after %d bytes: %v", written, err)
	}
	if free := o.StatFS().FreeBytes; free > 2<<20 {
		t.Errorf("%d bytes are free", free)
	}
	mustClose(t, o)
	if _, err := OpenOutput(ctx, store, testKey, OutputOptions{AtEnd: true, Memory: 24 << 20}); fault.KindOf(err) != fault.Refused {
		t.Errorf("old content that does not fit: %v", err)
	} else {
		t.Log(err)
	}
	o = mustOpen(t, store, OutputOptions{AtEnd: true, Memory: 80 << 20})
	if got := content(t, o, "f"); len(got) != written {
		t.Errorf("%d bytes are there, %d were written", len(got), written)
	}
	mustClose(t, o)
}

// TestAtEndTriesAgain: a put that failed, or whose answer was lost, is done again
// with the same bytes; a store that fails for good has nothing of the volume.
func TestAtEndTriesAgain(t *testing.T) {
	store := &storetest.Faulty{Store: &storetest.Memory{}}
	o := mustOpen(t, store, OutputOptions{AtEnd: true, Create: true})
	writeAt(t, create(t, o, "f"), randomBytes(1, 20<<20), 0)
	store.Reset(storetest.Fault{Op: storetest.Put, Name: "data/", Nth: 2, Lost: storetest.Away})
	mustClose(t, o)
	var puts []string
	for _, c := range store.Calls() {
		if c.Op == storetest.Put && path.Dir(c.Name) == "data" {
			puts = append(puts, c.Name)
		}
	}
	if len(puts) != 5 || puts[1] != puts[2] {
		t.Errorf("4 objects were put as %q", puts)
	}

	o = mustOpen(t, store, OutputOptions{AtEnd: true})
	writeAt(t, create(t, o, "g"), randomBytes(1, 1<<20), 0)
	store.Reset(storetest.Fault{Op: storetest.Put, From: 1, Err: storetest.Away})
	if _, err := o.Close(ctx); fault.KindOf(err) != fault.Incomplete {
		t.Errorf("a store that fails: %v", err)
	}
	if n := store.Count(storetest.Put); n != closeTries {
		t.Errorf("%d puts were tried", n)
	}
	store.Reset()
	o = mustOpen(t, store, OutputOptions{})
	if _, err := o.Lookup(format.RootInode, "g"); err != syscall.ENOENT {
		t.Errorf("g: %v", err)
	}
	mustClose(t, o)
}
