package fs

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"

	"cloister/fs/format"
	"cloister/fs/store/storetest"
	"cloister/internal/fault"
)

var ctx = context.Background()

// testSecret is a root secret for tests, so that a volume opens again.
var testSecret = func() *format.RootSecret {
	s, err := format.RootSecretFromBytes(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		panic(err)
	}
	return s
}()

func testKey(p format.Preamble) (*format.DEK, error) { return testSecret.DEK(p) }

func mustOpen(t testing.TB, store OutputStore, opts OutputOptions) *Output {
	t.Helper()
	opts.Create = true
	o, err := OpenOutput(ctx, store, testKey, opts)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func mustClose(t testing.TB, o *Output) format.Reference {
	t.Helper()
	ref, err := o.Close(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// create makes and opens a file in the root.
func create(t testing.TB, o *Output, name string) *OutputFile {
	t.Helper()
	i := must[Info](t)(o.Make(format.RootInode, name, New{Mode: format.ModeFile | 0o644}))
	return must[*OutputFile](t)(o.Open(i.Inode))
}

func writeAt(t testing.TB, f *OutputFile, p []byte, off int64) {
	t.Helper()
	if n, err := f.WriteAt(ctx, p, off); n != len(p) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
}

func content(t testing.TB, o *Output, name string) []byte {
	t.Helper()
	i := must[Info](t)(o.Lookup(format.RootInode, name))
	f := must[*OutputFile](t)(o.Open(i.Inode))
	defer f.Release()
	p := make([]byte, i.Attr.Size+10)
	n := must[int](t)(f.ReadAt(ctx, p, 0))
	return p[:n]
}

// kill ends an Output as a killed process ends: nothing more is written.
func (o *Output) kill() {
	o.stop()
	<-o.stopped
}

func randomBytes(seed uint64, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(p)
	return p
}

func TestOutputWriteCloseReopen(t *testing.T) {
	store := &storetest.Memory{}
	o := mustOpen(t, store, OutputOptions{})
	f := create(t, o, "a")
	data := randomBytes(1, 3<<20+17)
	writeAt(t, f, data, 0)
	if got := content(t, o, "a"); !bytes.Equal(got, data) {
		t.Fatal("dirty bytes read back differ")
	}
	check(t, f.Sync(ctx))
	if got := content(t, o, "a"); !bytes.Equal(got, data) {
		t.Fatal("sealed bytes read back differ")
	}
	writeAt(t, f, []byte("over"), 100_000)
	copy(data[100_000:], "over")
	if got := content(t, o, "a"); !bytes.Equal(got, data) {
		t.Fatal("dirty over sealed bytes read back differ")
	}
	f.Release()
	ref := mustClose(t, o)
	if ref.Epoch != 1 {
		t.Errorf("epoch %d", ref.Epoch)
	}
	for e := range store.List(ctx, format.JournalPrefix) {
		t.Errorf("%s is left", e.Name)
	}

	o = mustOpen(t, store, OutputOptions{Reference: &ref})
	if o.Recovered() != nil {
		t.Errorf("recovered %+v of a volume that was closed", o.Recovered())
	}
	if got := content(t, o, "a"); !bytes.Equal(got, data) {
		t.Fatal("bytes differ after opening again")
	}
	if ref = mustClose(t, o); ref.Epoch != 2 {
		t.Errorf("epoch %d", ref.Epoch)
	}
	// The reader of input volumes reads it too.
	v := must[*Volume](t)(Open(ctx, store, testKey, Options{Reference: &ref}))
	defer v.Close()
	inode, _ := v.Manifest().Lookup(format.RootInode, []byte("a"))
	got := make([]byte, len(data))
	if _, err := v.Open(inode).ReadAt(ctx, got, 0); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("the input reader: %v", err)
	}
}

func TestOutputKilled(t *testing.T) {
	store := &storetest.Memory{}
	o := mustOpen(t, store, OutputOptions{noBackground: true})
	f := create(t, o, "kept")
	data := randomBytes(2, 70_000)
	writeAt(t, f, data, 5)
	check(t, f.Sync(ctx))
	create(t, o, "lost")
	head := o.Head()
	o.kill()
	o = mustOpen(t, store, OutputOptions{Head: &head})
	r := o.Recovered()
	if r == nil || r.Records != 2 || r.Files != 1 || r.Bytes != 70_005 || r.Epoch != 1 || len(r.Runs) != 1 {
		t.Errorf("recovered %+v", r)
	}
	if got := content(t, o, "kept"); !bytes.Equal(got, append(make([]byte, 5), data...)) {
		t.Error("what was fsynced differs")
	}
	if _, err := o.Lookup(format.RootInode, "lost"); err != syscall.ENOENT {
		t.Errorf("a file nobody flushed: %v", err)
	}
	mustClose(t, o)
	for e := range store.List(ctx, format.JournalPrefix) {
		t.Errorf("%s is left", e.Name)
	}
}

func TestOutputWriterIsFenced(t *testing.T) {
	store := &storetest.Memory{}
	first := mustOpen(t, store, OutputOptions{noBackground: true})
	f := create(t, first, "a")
	writeAt(t, f, []byte("one"), 0)
	check(t, f.Sync(ctx))
	second := mustOpen(t, store, OutputOptions{noBackground: true})
	writeAt(t, f, []byte("two"), 0)
	err := f.Sync(ctx)
	if !errors.Is(err, ErrFenced) || !errors.Is(err, syscall.EIO) || fault.KindOf(err) != fault.Conflict {
		t.Errorf("the fenced writer's fsync: %v", err)
	}
	if who := second.preamble.Run.String(); err == nil || !bytes.Contains([]byte(err.Error()), []byte(who)) {
		t.Errorf("%v does not name %s", err, who)
	}
	if _, err := first.Close(ctx); fault.KindOf(err) != fault.Incomplete || !errors.Is(err, ErrFenced) {
		t.Errorf("the fenced writer's close: %v", err)
	}
	if got := content(t, second, "a"); string(got) != "one" {
		t.Errorf("the second writer has %q", got)
	}
	mustClose(t, second)
}

// TestOutputFailed: every writer is told of a flush that failed, once, and so
// is who asks at the end, when another flush has made up for it.
func TestOutputFailed(t *testing.T) {
	store := &storetest.Faulty{Store: &storetest.Memory{}}
	o := mustOpen(t, store, OutputOptions{noBackground: true})
	f := create(t, o, "a")
	other, err := o.Open(f.Inode())
	check(t, err)
	writeAt(t, f, []byte("kept"), 0)
	check(t, o.Failed())
	store.Reset(storetest.Fault{Op: storetest.Put, Nth: 1, Err: storetest.Away})
	if err := f.Sync(ctx); !errors.Is(err, syscall.EIO) {
		t.Errorf("fsync while the store fails: %v", err)
	}
	check(t, f.Sync(ctx))
	if err := other.Flush(ctx); !errors.Is(err, syscall.EIO) {
		t.Errorf("close of the other writer: %v", err)
	}
	check(t, other.Flush(ctx))
	mustClose(t, o)
	if err := o.Failed(); fault.KindOf(err) != fault.Unavailable || !errors.Is(err, storetest.Away) {
		t.Errorf("at the end: %v", err)
	}
	o = mustOpen(t, store, OutputOptions{})
	if got := content(t, o, "a"); string(got) != "kept" {
		t.Errorf("the file has %q", got)
	}
	mustClose(t, o)
	check(t, o.Failed())
}

// TestOutputShortOfMemory: dirty bytes beyond the budget are staged, unnamed by
// the journal; where the store takes nothing a write is refused whole, and goes
// on when it does again.
func TestOutputShortOfMemory(t *testing.T) {
	memory := &storetest.Memory{}
	store := &storetest.Faulty{Store: memory}
	o := mustOpen(t, store, OutputOptions{noBackground: true, Memory: minMemory})
	f := create(t, o, "f")
	piece := randomBytes(5, 1<<20)
	for i := range 16 {
		writeAt(t, f, piece, int64(i)<<20)
	}
	if staged, head := store.Count(storetest.Put), o.Head(); staged < 8 || head.Sequence != 1 {
		t.Errorf("%d objects are put, and the journal is at %d", staged, head.Sequence)
	}
	store.Reset(storetest.Fault{Op: storetest.Put, Err: storetest.Away})
	var n int
	var err error
	size := int64(16 << 20)
	for ; err == nil && size < 64<<20; size += int64(n) {
		n, err = f.WriteAt(ctx, piece, size)
	}
	if !errors.Is(err, syscall.EIO) || n != 0 || f.n.size() != size {
		t.Fatalf("with the store away: %d, %v, and the file has %d bytes of %d", n, err, f.n.size(), size)
	}
	store.Reset()
	if err := f.Sync(ctx); !errors.Is(err, syscall.EIO) {
		t.Errorf("staging failed, and fsync says %v", err)
	}
	writeAt(t, f, piece, size)
	check(t, f.Sync(ctx))
	o.kill()
	o = mustOpen(t, memory, OutputOptions{})
	if got := content(t, o, "f"); !bytes.Equal(got, bytes.Repeat(piece, int(size>>20)+1)) {
		t.Errorf("after a crash the file has %d bytes, or others", len(got))
	}
	mustClose(t, o)
}

// TestOutputSyncCloseFindsACommitUnderWay: with SyncClose, close waits for a
// commit that somebody else began and that has taken its file's changes.
func TestOutputSyncCloseFindsACommitUnderWay(t *testing.T) {
	memory := &storetest.Memory{}
	store := &storetest.Faulty{Store: memory}
	o := mustOpen(t, store, OutputOptions{noBackground: true, SyncClose: true})
	f, other := create(t, o, "a"), create(t, o, "b")
	writeAt(t, f, []byte("closed"), 0)
	begun, release := make(chan struct{}), make(chan struct{})
	store.Reset(storetest.Fault{Op: storetest.Put, Name: format.JournalPrefix, Nth: 1, Wait: release})
	synced, closed := make(chan error, 1), make(chan error, 1)
	go func() { synced <- other.Sync(ctx) }()
	go func() {
		for !settling(f) {
			runtime.Gosched()
		}
		close(begun)
		closed <- f.Flush(ctx)
	}()
	<-begun
	for !waited(o) && len(closed) == 0 {
		runtime.Gosched()
	}
	if len(closed) > 0 {
		t.Error("close returned before the commit")
	}
	close(release)
	check(t, <-synced)
	check(t, <-closed)
	o.kill()
	o = mustOpen(t, memory, OutputOptions{})
	if got := content(t, o, "a"); string(got) != "closed" {
		t.Errorf("what was closed is %q after a crash", got)
	}
	mustClose(t, o)
}

func settling(f *OutputFile) bool {
	f.o.mu.Lock()
	defer f.o.mu.Unlock()
	return f.n.settling
}

func waited(o *Output) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.waiting) > 0
}
