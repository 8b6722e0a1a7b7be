//go:build linux

package mount

import (
	"fmt"
	"testing"

	volume "cloister/fs"
	"cloister/fs/format"
	"cloister/fs/internal/voltest"
	"cloister/fs/store/storetest"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// walker does what the kernel does for a program that walks a tree in depth.
type walker struct {
	t       *testing.T
	i       *input
	stats   bool // the program asks for the attributes of files
	given   int  // files that came with attributes
	lookups int  // requests for those of files
}

const replySize = 4096

func (w *walker) walk(dir uint64) {
	var listed []fuse.DirEntry
	has := map[string]bool{}
	for off := uint64(0); ; {
		out := fuse.NewDirEntryList(make([]byte, replySize), off)
		in := &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: dir}, Offset: off}
		if status := w.i.ReadDirPlus(nil, in, out); !status.Ok() {
			w.t.Fatal(status)
		}
		entries, attrs, err := fuse.ParseDirLookupEntries(out.Bytes())
		if err != nil {
			w.t.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
		for n, e := range entries {
			if e.Name != "." && e.Name != ".." {
				listed = append(listed, e)
				has[e.Name] = attrs[n].NodeId != 0
			}
		}
		off = out.Offset
	}
	w.visit(dir, listed, has)
}

// visit asks for what the kernel has not been given: find looks at a whole
// directory before it enters those in it.
func (w *walker) visit(dir uint64, listed []fuse.DirEntry, has map[string]bool) {
	for _, e := range listed {
		isDir := e.Mode&format.ModeType == format.ModeDir
		if isDir && !has[e.Name] {
			w.t.Fatalf("directory %s came without attributes", e.Name)
		}
		switch {
		case !isDir && has[e.Name]:
			w.given++
		case !isDir && w.stats:
			w.lookups++
			var out fuse.EntryOut
			if status := w.i.Lookup(nil, &fuse.InHeader{NodeId: dir}, e.Name, &out); !status.Ok() || out.NodeId == 0 {
				w.t.Fatal(e.Name, status)
			}
		}
	}
	for _, e := range listed {
		if e.Mode&format.ModeType == format.ModeDir {
			w.walk(e.Ino)
		}
	}
}

const (
	walkedDirs  = 50
	filesPerDir = 100
)

func walkedInput(t *testing.T) *input {
	model, memory := voltest.New(), new(storetest.Memory)
	for d := range walkedDirs {
		model.Dir(fmt.Sprintf("d%d", d))
		for f := range filesPerDir {
			model.File(fmt.Sprintf("d%d/f%d", d, f), nil)
		}
	}
	model.Write(t, memory)
	v, err := volume.Open(t.Context(), memory, model.Key, volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return newInput(v, Options{})
}

// A walk that asks for attributes gets them with the listing, but for one in a
// reply; one that does not ask is soon given none; and either can follow on
// the other.
func TestListingsGiveWhatIsAskedFor(t *testing.T) {
	i := walkedInput(t)
	replies := walkedDirs * (filesPerDir*(entrySize+32)/replySize + 2)
	for round := range 2 {
		asks := &walker{t: t, i: i, stats: true}
		asks.walk(format.RootInode)
		// After a walk that did not ask, the first directory brings it back.
		if most := replies + round*filesPerDir; asks.lookups > most || asks.lookups < walkedDirs {
			t.Errorf("round %d: a walk that asks sent %d requests for %d files, want %d to %d", round, asks.lookups, walkedDirs*filesPerDir, walkedDirs, most)
		}
		bare := &walker{t: t, i: i}
		bare.walk(format.RootInode)
		if most := (maxDoubts + 1) * filesPerDir; bare.given > most {
			t.Errorf("round %d: a walk that does not ask was given the attributes of %d files, want at most %d", round, bare.given, most)
		}
	}
}

// entrySize is what the attributes of one entry take in a reply:
// fuse_entry_out, <linux/fuse.h>.
const entrySize = 128
