package fs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"

	"cloister/fs/format"
	"cloister/fs/store/storetest"
)

var errDied = errors.New("the process was killed")

// dying is a store as a process that is killed at a store call sees it: the
// call with the number at has its effect or not, and none comes after it.
type dying struct {
	store *storetest.Memory
	at    int // 0: never
	after bool
	died  context.CancelFunc

	mu    sync.Mutex // guards calls
	calls int
}

// call reports whether a call is made at all, and whether it is the last one.
func (d *dying) call() (made, last bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	last = d.at > 0 && d.calls >= d.at
	if last {
		d.died()
	}
	return !last || d.after && d.calls == d.at, last
}

func (d *dying) do(f func() error) error {
	made, last := d.call()
	var err error
	if made {
		err = f()
	}
	if last {
		return errDied
	}
	return err
}

func (d *dying) Put(_ context.Context, name string, data []byte) error {
	return d.do(func() error { return d.store.Put(ctx, name, data) })
}

func (d *dying) Delete(_ context.Context, name string) error {
	return d.do(func() error { return d.store.Delete(ctx, name) })
}

func (d *dying) Get(_ context.Context, name string, off int64, p []byte) error {
	return d.do(func() error { return d.store.Get(ctx, name, off, p) })
}

func (d *dying) Size(_ context.Context, name string) (size int64, err error) {
	err = d.do(func() (err error) { size, err = d.store.Size(ctx, name); return err })
	return size, err
}

func (d *dying) List(_ context.Context, prefix string) iter.Seq2[Entry, error] {
	if _, last := d.call(); last {
		return func(yield func(Entry, error) bool) { yield(Entry{}, errDied) }
	}
	return d.store.List(ctx, prefix)
}

func (d *dying) String() string { return "a store that dies" }

// script is a workload that keeps account of what it was promised.
type script struct {
	o         *Output
	syncClose bool
	alive     context.Context
	states    []map[string]string // after each step: what every name leads to
	floor     map[string]int      // the state that a name is promised to be in, or one after it
}

// now is the tree as the application sees it.
func (s *script) now() map[string]string { return maps.Clone(s.states[len(s.states)-1]) }

func (s *script) step(change func(tree map[string]string)) {
	tree := s.now()
	change(tree)
	s.states = append(s.states, tree)
}

// promise notes the answer of something that makes names durable.
func (s *script) promise(err error, names ...string) {
	if err == nil && s.alive.Err() == nil {
		for _, name := range names {
			s.floor[name] = len(s.states) - 1
		}
	}
}

// write has a file be written to, perhaps fsynced, and closed. What cannot be
// done any more is not done.
func (s *script) write(name string, off int64, data []byte, fsync bool) {
	if s.alive.Err() != nil {
		return
	}
	i, err := s.o.Lookup(format.RootInode, name)
	if err != nil {
		if i, err = s.o.Make(format.RootInode, name, New{Mode: format.ModeFile | 0o644}); err != nil {
			return
		}
	}
	defer s.o.Forget(i.Inode, 1)
	f, err := s.o.Open(i.Inode)
	if err != nil {
		return
	}
	defer f.Release()
	if n, err := f.WriteAt(ctx, data, off); n != len(data) || err != nil {
		return
	}
	s.step(func(tree map[string]string) {
		b := grown([]byte(tree[name]), int(off)+len(data))
		copy(b[off:], data)
		tree[name] = string(b)
	})
	if fsync {
		s.promise(f.Sync(s.alive), name)
	}
	if err := f.Flush(s.alive); s.syncClose {
		s.promise(err, name)
	}
}

func (s *script) rename(from, to string) {
	if s.alive.Err() == nil && s.o.Rename(format.RootInode, from, format.RootInode, to, 0) == nil {
		s.step(func(tree map[string]string) { tree[to] = tree[from]; delete(tree, from) })
	}
}

func (s *script) unlink(name string) {
	if s.alive.Err() == nil && s.o.Unlink(format.RootInode, name) == nil {
		s.step(func(tree map[string]string) { delete(tree, name) })
	}
}

func (s *script) truncate(name string, size uint64) {
	i, err := s.o.Lookup(format.RootInode, name)
	if s.alive.Err() != nil || err != nil {
		return
	}
	if _, err := s.o.SetAttr(i.Inode, Change{Size: &size}); err == nil {
		s.step(func(tree map[string]string) {
			tree[name] = string(grown([]byte(tree[name])[:min(int(size), len(tree[name]))], int(size)))
		})
	}
}

func (s *script) syncDir(names ...string) {
	if s.alive.Err() == nil {
		s.promise(s.o.SyncDir(s.alive, format.RootInode), names...)
	}
}

// run is the workload: all ways to make something durable, with rewriting,
// renaming over, shortening, removing, staging and closing in between.
func (s *script) run() {
	s.write("a", 0, randomBytes(1, 50_000), true)
	s.write("closed", 0, randomBytes(2, 5_000), false)
	s.write("a", 20_000, randomBytes(3, 9_000), true)
	s.write("a.new", 0, randomBytes(4, 30_000), true)
	s.rename("a.new", "a")
	s.syncDir("a", "a.new")
	s.truncate("a", 1_000)
	s.write("a", 900, randomBytes(5, 200), true)
	s.write("large", 0, randomBytes(6, 3<<20), true) // staged as it comes
	s.o.stageAll()
	s.unlink("closed")
	s.write("large", 1<<20, randomBytes(7, 700_000), false)
	s.syncDir("closed")
	s.write("closed", 0, randomBytes(8, 10), false)
	if s.alive.Err() == nil {
		_, err := s.o.Close(s.alive)
		s.promise(err, "a", "a.new", "closed", "large")
	}
}

// check opens what is left and compares it with what was promised.
func (s *script) check(t *testing.T, store *storetest.Memory) {
	t.Helper()
	o := mustOpen(t, store, OutputOptions{noBackground: true})
	defer o.kill()
	there := map[string]string{}
	check(t, o.ReadDir(format.RootInode, 0, func(e DirEntry) bool { there[e.Name] = ""; return true }))
	for name := range there {
		there[name] = string(content(t, o, name))
	}
	for name, floor := range s.floor {
		got, ok := there[name]
		fits := func(tree map[string]string) bool { want, there := tree[name]; return ok == there && got == want }
		if !slices.ContainsFunc(s.states[floor:], fits) {
			t.Errorf("%s (there: %v, %d bytes) is as it never was since it was made durable", name, ok, len(got))
		}
	}
}

// killAt runs the workload on a store that dies at a call, and returns what it
// was promised and how many calls there were.
func killAt(t *testing.T, store *storetest.Memory, at int, after, syncClose bool) (*script, int) {
	alive, died := context.WithCancel(ctx)
	defer died()
	d := &dying{store: store, at: at, after: after, died: died}
	s := &script{syncClose: syncClose, alive: alive, states: []map[string]string{{}}, floor: map[string]int{}}
	o, err := OpenOutput(alive, d, testKey, OutputOptions{Create: true, SyncClose: syncClose, Memory: minMemory, noBackground: true})
	if err != nil {
		return s, d.calls
	}
	s.o = o
	s.run()
	o.kill()
	if at == 0 && alive.Err() != nil {
		t.Fatal("the workload did not end by itself")
	}
	return s, d.calls
}

// TestOutputCrashMatrix kills the writer at every store call of a workload,
// before and after the call has its effect, and the recovery that follows at
// every one of its own.
func TestOutputCrashMatrix(t *testing.T) {
	for _, syncClose := range []bool{false, true} {
		whole, calls := killAt(t, &storetest.Memory{}, 0, false, syncClose)
		if calls < 20 || len(whole.floor) != 4 {
			t.Fatalf("the workload makes %d store calls and has %d names promised: it tries nothing", calls, len(whole.floor))
		}
		for at := 1; at <= calls+2; at++ { // how many there are varies with the flusher's timing
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("call %d of %d, after %v, sync close %v", at, calls, after, syncClose), func(t *testing.T) {
					store := &storetest.Memory{}
					s, _ := killAt(t, store, at, after, syncClose)
					killRecoveries(t, store, s, after)
					s.check(t, store)
				})
			}
		}
	}
}

// killRecoveries kills the recovery at each of its store calls, each time on a
// copy of what there is, and checks what a second one makes of it.
func killRecoveries(t *testing.T, left *storetest.Memory, s *script, after bool) {
	for at := 1; ; at++ {
		alive, died := context.WithCancel(ctx)
		d := &dying{store: left.Clone(), at: at, after: after, died: died}
		o, err := OpenOutput(alive, d, testKey, OutputOptions{Create: true, noBackground: true})
		if err == nil {
			o.kill()
		}
		whole := alive.Err() == nil
		died()
		s.check(t, d.store)
		if whole {
			return
		}
	}
}
