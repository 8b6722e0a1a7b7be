package fs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloister/fs"
	"cloister/fs/format"
	"cloister/fs/internal/voltest"
	"cloister/fs/store/storetest"
	"cloister/internal/fault"

	"pgregory.net/rapid"
)

// memory is a store in memory, as a local or a distant one.
type memory struct {
	storetest.Store
	local bool
}

func (m memory) Local() bool { return m.local }

func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := 0; i+8 <= n; i += 8 {
		x := r.Uint64()
		for j := range 8 {
			b[i+j] = byte(x >> (8 * j))
		}
	}
	return b
}

func open(t testing.TB, s fs.Store, v *voltest.Volume, o fs.Options) *fs.Volume {
	t.Helper()
	volume, err := fs.Open(t.Context(), s, v.Key, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(volume.Close)
	return volume
}

// model is a random volume and what its files hold.
type model struct {
	v     *voltest.Volume
	store *storetest.Memory
	files map[string][]byte
	names []string
}

func drawModel(t *testing.T, rt *rapid.T) *model {
	m := &model{v: voltest.New(), store: new(storetest.Memory), files: map[string][]byte{}}
	m.v.Suite = rapid.SampledFrom([]format.Suite{format.Suite16K, format.Suite64K}).Draw(rt, "suite")
	m.v.ObjectSize = rapid.SampledFrom([]int{1000, 70_000, 300_000, 5 << 20}).Draw(rt, "object size")
	for i := range rapid.IntRange(1, 6).Draw(rt, "files") {
		name := fmt.Sprintf("name-%d", i)
		size := rapid.OneOf(rapid.IntRange(0, 3000), rapid.IntRange(0, 200_000), rapid.IntRange(1<<20, 3<<20)).Draw(rt, "size")
		content := make([]byte, size)
		var pieces []voltest.Piece
		for off := 0; off < size; {
			n := rapid.IntRange(1, size-off).Draw(rt, "piece")
			if len(pieces) == 4 {
				n = size - off
			}
			if rapid.IntRange(0, 3).Draw(rt, "kind") > 0 {
				data := pattern(n, uint64(i*1000+len(pieces)))
				copy(content[off:], data)
				pieces = append(pieces, voltest.Piece{Off: int64(off), Data: data})
			}
			off += n
		}
		m.v.Sparse(name, int64(size), pieces...)
		m.files[name] = content
		m.names = append(m.names, name)
	}
	m.v.Write(t, m.store)
	return m
}

func TestRandomReadsEqualTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := drawModel(t, rt)
		local := rapid.Bool().Draw(rt, "local")
		budget := rapid.SampledFrom([]int64{1, 100_000, 1 << 20, 64 << 20}).Draw(rt, "memory")
		v, err := fs.Open(t.Context(), memory{m.store, local}, m.v.Key, fs.Options{Memory: budget})
		if err != nil {
			rt.Fatal(err)
		}
		defer v.Close()
		handles := map[string]*fs.File{}
		for range rapid.IntRange(1, 30).Draw(rt, "reads") {
			name := rapid.SampledFrom(m.names).Draw(rt, "file")
			if handles[name] == nil || rapid.IntRange(0, 9).Draw(rt, "reopen") == 0 {
				if f := handles[name]; f != nil {
					f.Close()
				}
				handles[name] = v.Open(m.v.Inode(name))
			}
			want := m.files[name]
			off := rapid.IntRange(0, len(want)+10).Draw(rt, "off")
			n := rapid.OneOf(rapid.IntRange(0, 5000), rapid.IntRange(0, 1<<20)).Draw(rt, "n")
			checkRead(rt, handles[name], want, off, n)
		}
		for _, f := range handles {
			f.Close()
		}
	})
}

// checkRead reads into a dirty buffer, so that a hole that is not filled shows,
// with a guard behind it, so that a write beyond the reply does.
func checkRead(t rapid.TB, f *fs.File, want []byte, off, n int) {
	buf := bytes.Repeat([]byte{0xa5}, n+1)
	got, err := f.ReadAt(context.Background(), buf[:n], int64(off))
	expected := want[min(off, len(want)):min(off+n, len(want))]
	if buf[n] != 0xa5 {
		t.Fatalf("read of %d at %d wrote beyond the buffer", n, off)
	}
	if !bytes.Equal(buf[:got], expected) {
		t.Fatalf("read of %d at %d of %d bytes: %d bytes, or wrong ones; want %d; error %v", n, off, len(want), got, len(expected), err)
	}
	if n > 0 && (got < n) != (err == io.EOF) || err != nil && err != io.EOF {
		t.Fatalf("read of %d at %d of %d bytes: %d, %v", n, off, len(want), got, err)
	}
}

// TestOneFlippedByte changes one byte of one object: each read that touches a
// segment it lies in says so and gives what comes before; every other read is
// right.
func TestOneFlippedByte(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := drawModel(t, rt)
		objects := m.v.Objects()
		if len(objects) == 0 {
			return
		}
		number := rapid.IntRange(0, len(objects)-1).Draw(rt, "object")
		o := objects[number]
		at := rapid.Int64Range(0, o.SealedLen-1).Draw(rt, "byte")
		damage(t, m.store, format.ObjectName(o.ID), func(b []byte) []byte {
			b[at] ^= byte(rapid.IntRange(1, 255).Draw(rt, "flip"))
			return b
		})
		bad := plainRange{uint32(number), m.v.Suite.PlainStart(at / m.v.Suite.SegmentSize()), m.v.Suite.PlainStart(at/m.v.Suite.SegmentSize() + 1)}
		if at < 40 { // the header is pinned by the manifest; the object's is not read
			bad.end = bad.begin
		}
		checkDamaged(t, rt, m, bad, format.ErrAuthentication)
	})
}

func TestObjectThatEndsEarlyOrIsMissing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := drawModel(t, rt)
		objects := m.v.Objects()
		if len(objects) == 0 {
			return
		}
		number := rapid.IntRange(0, len(objects)-1).Draw(rt, "object")
		o := objects[number]
		bad := plainRange{uint32(number), 0, 1 << 40}
		if rapid.Bool().Draw(rt, "missing") {
			if err := m.store.Delete(t.Context(), format.ObjectName(o.ID)); err != nil {
				t.Fatal(err)
			}
		} else {
			end := rapid.Int64Range(0, o.SealedLen-1).Draw(rt, "end")
			damage(t, m.store, format.ObjectName(o.ID), func(b []byte) []byte { return b[:end] })
			bad.begin = m.v.Suite.PlainStart(end / m.v.Suite.SegmentSize())
		}
		checkDamaged(t, rt, m, bad, nil)
	})
}

type plainRange struct {
	object     uint32
	begin, end int64 // of the object's plaintext
}

func damage(t testing.TB, s *storetest.Memory, name string, change func([]byte) []byte) {
	t.Helper()
	size, err := s.Size(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if err := s.Get(t.Context(), name, 0, b); err != nil {
		t.Fatal(err)
	}
	s.Overwrite(name, change(b))
}

// checkDamaged reads every file, whole and in random parts.
func checkDamaged(t *testing.T, rt *rapid.T, m *model, bad plainRange, cause error) {
	v, err := fs.Open(t.Context(), memory{m.store, rapid.Bool().Draw(rt, "local")}, m.v.Key,
		fs.Options{Memory: rapid.SampledFrom([]int64{1, 1 << 20, 64 << 20}).Draw(rt, "memory")})
	if err != nil {
		rt.Fatal(err)
	}
	defer v.Close()
	for _, name := range m.names {
		want := m.files[name]
		if len(want) == 0 {
			continue
		}
		f := v.Open(m.v.Inode(name))
		reads := [][2]int{{0, len(want)}}
		for range 8 {
			off := rapid.IntRange(0, len(want)-1).Draw(rt, "off")
			reads = append(reads, [2]int{off, rapid.IntRange(1, len(want)-off).Draw(rt, "n")})
		}
		for _, r := range reads {
			off, n := r[0], r[1]
			good := firstBad(m.v.Extents(name), bad, int64(off), int64(off+n)) - int64(off)
			buf := make([]byte, n)
			got, err := f.ReadAt(context.Background(), buf, int64(off))
			if !bytes.Equal(buf[:got], want[off:off+got]) {
				rt.Fatalf("%s: wrong bytes in %d read at %d", name, got, off)
			}
			if good == int64(n) {
				if err != nil {
					rt.Fatalf("%s: read of %d at %d touches nothing damaged: %v", name, n, off, err)
				}
				continue
			}
			var d *fs.DamageError
			if int64(got) != good || !errors.Is(err, fs.ErrDamaged) || !errors.As(err, &d) || fault.KindOf(err) != fault.Refused {
				rt.Fatalf("%s: read of %d at %d: %d bytes, %v; want %d and damage", name, n, off, got, err, good)
			}
			if cause != nil && !errors.Is(err, cause) {
				rt.Fatalf("error %v does not wrap %v", err, cause)
			}
			if d.Object != m.v.Objects()[bad.object].ID || strings.Contains(err.Error(), name) {
				rt.Fatalf("error %v names the wrong thing", err)
			}
		}
		f.Close()
	}
}

// firstBad returns the first damaged offset of a file in [begin, end), or end.
func firstBad(extents []format.Extent, bad plainRange, begin, end int64) int64 {
	for _, e := range extents {
		if e.Object != bad.object {
			continue
		}
		from := max(bad.begin, int64(e.ObjectOff)) - int64(e.ObjectOff) + int64(e.FileOff)
		to := min(bad.end, int64(e.ObjectOff)+int64(e.Length)) - int64(e.ObjectOff) + int64(e.FileOff)
		if from, to = max(from, begin), min(to, end); from < to {
			return from
		}
	}
	return end
}

func TestManyReaders(t *testing.T) {
	for _, local := range []bool{true, false} {
		t.Run(fmt.Sprintf("local=%v", local), func(t *testing.T) {
			model := voltest.New()
			model.ObjectSize = 3 << 20
			store := new(storetest.Memory)
			contents := map[string][]byte{}
			for i := range 4 {
				name := fmt.Sprintf("big%d", i)
				contents[name] = pattern(5<<20+i, uint64(i))
				model.File(name, contents[name])
			}
			for i := range 50 {
				name := fmt.Sprintf("small%d", i)
				contents[name] = pattern(1000*i, uint64(i))
				model.File(name, contents[name])
			}
			model.Write(t, store)
			v := open(t, memory{store, local}, model, fs.Options{Memory: 2 << 20})
			var wg sync.WaitGroup
			for g := range 8 {
				wg.Go(func() {
					for name, want := range contents {
						f := v.Open(model.Inode(name))
						readThrough(t, f, want, 1<<(14+g%6))
						f.Close()
					}
				})
			}
			wg.Wait()
		})
	}
}

func readThrough(t *testing.T, f *fs.File, want []byte, step int) {
	buf := make([]byte, step)
	for off := 0; off < len(want); off += step {
		n, err := f.ReadAt(context.Background(), buf, int64(off))
		if err != nil && err != io.EOF || !bytes.Equal(buf[:n], want[off:min(off+step, len(want))]) {
			t.Errorf("read of %d at %d: %d, %v", step, off, n, err)
			return
		}
	}
}

// TestRequests holds what reading costs at a distant store.
func TestRequests(t *testing.T) {
	model := voltest.New()
	big := pattern(64<<20, 1)
	model.File("big", big)
	for i := range 2000 {
		model.File(fmt.Sprintf("s%04d", i), pattern(2000, uint64(i)))
	}
	var mem storetest.Memory
	model.Write(t, &mem)

	t.Run("sequential", func(t *testing.T) {
		store := &storetest.Faulty{Store: &mem}
		v := open(t, store, model, fs.Options{})
		store.Reset()
		f := v.Open(model.Inode("big"))
		readThrough(t, f, big, 1<<20)
		f.Close()
		moved := sum(store)
		if n := store.Count(storetest.Get); n > 40 || moved > 100<<20 {
			t.Errorf("64 MiB in order took %d requests for %d MiB", n, moved>>20)
		}
	})
	t.Run("random", func(t *testing.T) {
		store := &storetest.Faulty{Store: &mem}
		v := open(t, store, model, fs.Options{})
		store.Reset()
		f := v.Open(model.Inode("big"))
		r := rand.New(rand.NewPCG(1, 2))
		buf := make([]byte, 4096)
		for range 200 {
			off := r.Int64N(int64(len(big)-4096)) &^ 4095
			if _, err := f.ReadAt(t.Context(), buf, off); err != nil || !bytes.Equal(buf, big[off:off+4096]) {
				t.Fatalf("read at %d: %v", off, err)
			}
		}
		f.Close()
		if moved := sum(store); moved > 300*64<<10 {
			t.Errorf("200 random reads of 4 KiB moved %d KiB", moved>>10)
		}
	})
	t.Run("strided", func(t *testing.T) {
		store := &storetest.Faulty{Store: &mem}
		v := open(t, store, model, fs.Options{})
		store.Reset()
		f := v.Open(model.Inode("big"))
		defer f.Close()
		buf := make([]byte, 1<<20)
		for off := int64(0); off < int64(len(big)); off += 8 << 20 {
			if _, err := f.ReadAt(t.Context(), buf, off); err != nil || !bytes.Equal(buf, big[off:][:len(buf)]) {
				t.Fatalf("read at %d: %v", off, err)
			}
		}
		if moved := sum(store); moved > 2*8<<20 {
			t.Errorf("8 reads of 1 MiB, 8 MiB apart, moved %d KiB", moved>>10)
		}
	})
	t.Run("small files", func(t *testing.T) {
		store := &storetest.Faulty{Store: &mem}
		v := open(t, store, model, fs.Options{})
		store.Reset()
		for i := range 2000 {
			f := v.Open(model.Inode(fmt.Sprintf("s%04d", i)))
			readThrough(t, f, pattern(2000, uint64(i)), 4096)
			f.Close()
		}
		if n := store.Count(storetest.Get); n > 30 {
			t.Errorf("2000 small files of 4 MB took %d requests", n)
		}
	})
}

func sum(s *storetest.Faulty) (bytes int64) {
	for _, c := range s.Calls() {
		bytes += int64(c.Len)
	}
	return bytes
}

// TestStoreAwayIsNotDamage: what may pass is not remembered, nor called damage.
func TestStoreAwayIsNotDamage(t *testing.T) {
	for _, local := range []bool{true, false} {
		model := voltest.New()
		want := pattern(300_000, 3)
		model.File("f", want)
		var mem storetest.Memory
		model.Write(t, &mem)
		store := &storetest.Faulty{Store: &mem}
		v := open(t, memory{store, local}, model, fs.Options{})
		store.Reset(storetest.Fault{Op: storetest.Get, Err: storetest.Away})
		f := v.Open(model.Inode("f"))
		n, err := f.ReadAt(t.Context(), make([]byte, 1000), 0)
		if n != 0 || errors.Is(err, fs.ErrDamaged) || fault.KindOf(err) != fault.Unavailable {
			t.Errorf("local=%v: while away: %d, %v", local, n, err)
		}
		store.Reset()
		readThrough(t, f, want, 1<<20)
		f.Close()
	}
}

// TestCancelledReadLeavesOthersAlone: two wait for one range, one is
// interrupted, the other gets it, and nothing is left running after Close.
func TestCancelledReadLeavesOthersAlone(t *testing.T) {
	model := voltest.New()
	want := pattern(10_000, 3)
	model.File("f", want)
	var mem storetest.Memory
	model.Write(t, &mem)
	store := &storetest.Faulty{Store: &mem}
	before := runtime.NumGoroutine()
	v, err := fs.Open(t.Context(), store, model.Key, fs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	store.Reset(storetest.Fault{Op: storetest.Get, Wait: gate})
	f := v.Open(model.Inode("f"))
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	second := make(chan error)
	go func() { _, err := f.ReadAt(ctx, make([]byte, 100), 0); first <- err }()
	go func() { _, err := f.ReadAt(t.Context(), make([]byte, 100), 50); second <- err }()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the interrupted read: %v", err)
	}
	close(gate)
	if err := <-second; err != nil {
		t.Errorf("the other read: %v", err)
	}
	f.Close()
	v.Close()
	waitFor(t, func() bool { return runtime.NumGoroutine() <= before })
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("goroutines left:\n%s", buf[:runtime.Stack(buf, true)])
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	model := voltest.New()
	model.File("f", []byte("x"))
	var mem storetest.Memory
	first := model.Write(t, &mem)
	model.Epoch = 2
	second := model.Write(t, &mem)
	other := voltest.New()
	other.Root = model.Root
	otherRef := other.Write(t, new(storetest.Memory))

	with := func(change func(*format.Reference)) *format.Reference {
		r := second
		change(&r)
		return &r
	}
	older := mem.Clone()
	if err := older.Delete(t.Context(), format.ManifestName(2)); err != nil {
		t.Fatal(err)
	}
	newer := mem.Clone()
	if err := newer.Delete(t.Context(), format.ManifestName(1)); err != nil {
		t.Fatal(err)
	}
	renamed := mem.Clone()
	if err := renamed.Put(t.Context(), format.ManifestName(3), object(t, renamed, format.ManifestName(1))); err != nil {
		t.Fatal(err)
	}
	broken := mem.Clone()
	damage(t, broken, format.ManifestName(2), func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	replaced := older.Clone()
	model.Write(t, replaced) // epoch 2 again, with other ciphertext
	strange := older.Clone()
	other.Epoch = 2
	other.Write(t, strange)

	cases := []struct {
		name  string
		store *storetest.Memory
		key   fs.KeyFunc
		ref   *format.Reference
		kind  fault.Kind
		is    error
		text  string
		hint  string
	}{
		{"nothing", new(storetest.Memory), model.Key, nil, fault.NotFound, nil, "there is no volume at memory", "prep encrypt"},
		{"nothing with reference", new(storetest.Memory), model.Key, &first, fault.NotFound, nil, "there is no volume at memory", "prep encrypt"},
		{"wrong key", &mem, voltest.New().Key, nil, fault.Refused, format.ErrWrongKey, "not this volume's", "KEYFILE"},
		{"older", older, model.Key, &second, fault.Refused, format.ErrReference, "its newest epoch, 1, is older than the reference's, 2", "ask its owner"},
		{"newer", newer, model.Key, &first, fault.Refused, format.ErrReference, "its newest epoch, 2, is newer than the reference's, 1", "ask its owner"},
		{"other volume", strange, model.Key, &second, fault.Refused, format.ErrReference, "it is another volume", "ask its owner"},
		{"other reference", &mem, model.Key, &otherRef, fault.Refused, format.ErrReference, "it is another volume", "ask its owner"},
		{"other content", replaced, model.Key, &second, fault.Refused, format.ErrReference, "its epoch 2 is not the one the reference names: the manifest has other content", "ask its owner"},
		{"key version", &mem, model.Key, with(func(r *format.Reference) { r.KeyVersion = 9 }), fault.Refused, format.ErrReference, "key version 1; the reference has 9", "ask"},
		{"check value", &mem, model.Key, with(func(r *format.Reference) { r.Check[0] ^= 1 }), fault.Refused, format.ErrReference, "another DEK", "ask"},
		{"renamed manifest", renamed, model.Key, nil, fault.Refused, format.ErrReference, "epoch 1 lies under the name of epoch 3", "ask"},
		{"broken", broken, model.Key, nil, fault.Refused, format.ErrAuthentication, "authentication failed", ""},
		{"broken with reference", broken, model.Key, &second, fault.Refused, format.ErrReference, "other content", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := fs.Open(t.Context(), c.store, c.key, fs.Options{Reference: c.ref})
			if fault.KindOf(err) != c.kind || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("Open: %v (kind %v), want kind %v", err, fault.KindOf(err), c.kind)
			}
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("Open: %v; want it to say %q", err, c.text)
			}
			if !strings.Contains(strings.Join(fault.Hints(err), "\n"), c.hint) {
				t.Errorf("hints %q; want %q", fault.Hints(err), c.hint)
			}
		})
	}
	for _, ref := range []*format.Reference{nil, &first, &second} {
		if _, err := fs.Open(t.Context(), &mem, model.Key, fs.Options{Reference: ref}); err != nil {
			t.Errorf("Open with %v: %v", ref, err)
		}
	}
}

func object(t *testing.T, s *storetest.Memory, name string) []byte {
	var b []byte
	damage(t, s, name, func(data []byte) []byte { b = slices.Clone(data); return data })
	return b
}

// TestReadAheadIsGivenUp: what is read ahead goes on while the reader reads on,
// and is cancelled when it goes elsewhere or closes the file.
func TestReadAheadIsGivenUp(t *testing.T) {
	model := voltest.New()
	big := pattern(64<<20, 1)
	model.File("big", big)
	var mem storetest.Memory
	model.Write(t, &mem)
	second := format.ObjectName(model.Objects()[1].ID) // from 32 MiB on
	for what, leave := range map[string]func(*fs.File){
		"seek":  func(f *fs.File) { readThrough(t, f, big[:4096], 4096) },
		"close": func(f *fs.File) { f.Close() },
	} {
		t.Run(what, func(t *testing.T) {
			never := make(chan struct{})
			defer close(never)
			store := &storetest.Faulty{Store: &mem}
			v := open(t, store, model, fs.Options{})
			store.Reset(storetest.Fault{Op: storetest.Get, Name: second, Wait: never})
			f := v.Open(model.Inode("big"))
			defer f.Close()
			readThrough(t, f, big[:24<<20], 1<<20)
			if n := len(cancelled(store)); n > 0 {
				t.Fatalf("%d requests were cancelled under a reader that reads on", n)
			}
			leave(f)
			waitFor(t, func() bool { return len(cancelled(store)) > 0 })
			for _, c := range cancelled(store) {
				if c.Name != second {
					t.Errorf("cancelled: %+v", c)
				}
			}
		})
	}
}

func cancelled(s *storetest.Faulty) (calls []storetest.Call) {
	for _, c := range s.Calls() {
		if errors.Is(c.Err, context.Canceled) {
			calls = append(calls, c)
		}
	}
	return calls
}

// TestMemoryIsHeld: with 16 readers in sequence never more is on its way than
// the budget.
func TestMemoryIsHeld(t *testing.T) {
	const budget = 16 << 20
	model := voltest.New()
	big := pattern(64<<20, 1)
	model.File("big", big)
	var mem storetest.Memory
	model.Write(t, &mem)
	flying := &flying{Store: &mem}
	v := open(t, flying, model, fs.Options{Memory: budget})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			f := v.Open(model.Inode("big"))
			defer f.Close()
			buf := make([]byte, 256<<10)
			for off := i * 4 << 20; off < (i+1)*4<<20; off += len(buf) {
				if _, err := f.ReadAt(t.Context(), buf, int64(off)); err != nil || !bytes.Equal(buf, big[off:off+len(buf)]) {
					t.Errorf("read at %d: %v", off, err)
				}
			}
		})
	}
	wg.Wait()
	if most := flying.most.Load(); most == 0 || most > budget {
		t.Errorf("%d KiB were on their way at once, with a budget of %d KiB", most>>10, budget>>10)
	}
}

// flying is a store that knows how many bytes were on their way at once.
type flying struct {
	storetest.Store
	now, most atomic.Int64
}

func (s *flying) Get(ctx context.Context, name string, off int64, p []byte) error {
	now := s.now.Add(int64(len(p)))
	defer s.now.Add(-int64(len(p)))
	for most := s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
	}
	return s.Store.Get(ctx, name, off, p)
}
