package fs_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"cloister/fs"
	"cloister/fs/internal/voltest"
	"cloister/fs/store/storetest"
	"cloister/internal/fault"
)

// logged is a store that writes down what it is asked.
type logged struct {
	storetest.Store
	mu  sync.Mutex // guards log
	log []string
}

func (l *logged) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, fmt.Sprintf(format, args...))
}

func (l *logged) Get(ctx context.Context, name string, off int64, p []byte) error {
	l.note("get %s %d+%d", name, off, len(p))
	return l.Store.Get(ctx, name, off, p)
}

func (l *logged) Size(ctx context.Context, name string) (int64, error) {
	l.note("size %s", name)
	return l.Store.Size(ctx, name)
}

func (l *logged) List(ctx context.Context, prefix string) iter.Seq2[fs.Entry, error] {
	l.note("list %s", prefix)
	return l.Store.List(ctx, prefix)
}

func (l *logged) asked() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.log)
}

func granted(int64) error { return nil }

// wholeVolume has small files, which share objects, and large ones.
func wholeVolume(t *testing.T) (*voltest.Volume, *storetest.Memory, map[string][]byte) {
	v, store, files := voltest.New(), new(storetest.Memory), map[string][]byte{}
	v.ObjectSize = 9 << 20 // more than one request
	for i := range 20 {
		files[fmt.Sprintf("small-%d", i)] = pattern(10_000+i, uint64(i))
	}
	files["large"], files["other"] = pattern(20<<20, 100), pattern(3<<20, 101)
	for name, data := range files {
		v.File(name, data)
	}
	v.Write(t, store)
	return v, store, files
}

// TestWholeAsksTheStoreTheSame: what the store is asked, in which order, does not
// depend on what is read, in which order, or whether anything is; and nothing is
// asked once the volume is open.
func TestWholeAsksTheStoreTheSame(t *testing.T) {
	v, memory, files := wholeVolume(t)
	read := func(volume *fs.Volume, name string, off, n int) {
		t.Helper()
		p := make([]byte, n)
		if _, err := volume.Open(v.Inode(name)).ReadAt(t.Context(), p, int64(off)); err != nil {
			t.Fatal(err)
		}
		if string(p) != string(files[name][off:off+n]) {
			t.Errorf("%s at %d reads something else", name, off)
		}
	}
	var first []string
	for what, use := range map[string]func(*fs.Volume){
		"nothing": func(*fs.Volume) {},
		"everything": func(volume *fs.Volume) {
			for name, data := range files {
				read(volume, name, 0, len(data))
			}
		},
		"backwards and at random": func(volume *fs.Volume) {
			for off := 20<<20 - 4096; off > 0; off -= 777_777 {
				read(volume, "large", off, 4096)
			}
			read(volume, "small-7", 3, 5)
		},
	} {
		for _, local := range []bool{true, false} {
			store := &logged{Store: listed{memory, local}}
			volume := open(t, store, v, fs.Options{Whole: granted})
			opened := store.asked()
			use(volume)
			if after := store.asked(); len(after) != len(opened) {
				t.Errorf("%s: the store was asked %q after opening", what, after[len(opened):])
			}
			if first == nil {
				first = opened
			}
			if !slices.Equal(opened, first) {
				t.Errorf("%s: the store was asked %q, and %q before", what, opened, first)
			}
			for _, o := range v.Objects() {
				if !slices.ContainsFunc(opened, func(line string) bool { return strings.Contains(line, o.ID.String()) }) {
					t.Errorf("object %s was not fetched", o.ID)
				}
			}
		}
	}
}

// listed is a store in memory, as a local or a distant one.
type listed struct {
	*storetest.Memory
	local bool
}

func (l listed) Local() bool { return l.local }

// TestWholeIsGranted: how much memory it takes is told before anything of it is
// fetched, and no is no.
func TestWholeIsGranted(t *testing.T) {
	v, memory, _ := wholeVolume(t)
	var want, asked int64
	for _, o := range v.Objects() {
		want += o.SealedLen
	}
	store := &logged{Store: memory}
	refusal := fault.Errorf(fault.Refused, "", "no")
	_, err := fs.Open(t.Context(), store, v.Key, fs.Options{Whole: func(n int64) error { asked = n; return refusal }})
	if !errors.Is(err, refusal) || asked != want {
		t.Errorf("%v; %d bytes were asked for, want %d", err, asked, want)
	}
	for _, line := range store.asked() {
		if strings.HasPrefix(line, "get data/") {
			t.Errorf("the store was asked %q", line)
		}
	}
}

// TestWholeIsChecked: damage in a segment that nobody would read refuses the
// volume: who damaged it does not learn from the run whether it was read.
func TestWholeIsChecked(t *testing.T) {
	v, memory, _ := wholeVolume(t)
	last := v.Objects()[len(v.Objects())-1]
	var name string
	for e, err := range memory.List(t.Context(), "data/") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(e.Name, last.ID.String()) {
			name = e.Name
		}
	}
	data := make([]byte, last.SealedLen)
	if err := memory.Get(t.Context(), name, 0, data); err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := errors.Join(memory.Delete(t.Context(), name), memory.Put(t.Context(), name, data)); err != nil {
		t.Fatal(err)
	}
	_, err := fs.Open(t.Context(), memory, v.Key, fs.Options{Whole: granted})
	if !errors.Is(err, fs.ErrDamaged) || fault.KindOf(err) != fault.Refused {
		t.Errorf("%v, of kind %v", err, fault.KindOf(err))
	}
}
