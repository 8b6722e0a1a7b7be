package diskcache

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloister/fs/store/storetest"
	"cloister/internal/fault"
)

// closing makes a store of the tests one that can be closed.
type closing struct{ storetest.Store }

func (closing) Close() error { return nil }

// newStore puts a cache in front of a store, with all names kept unless keeps
// says otherwise.
func newStore(t *testing.T, origin storetest.Store, o Options) *Store {
	t.Helper()
	if o.Size == 0 {
		o.Size = MinSize
	}
	s, err := Open(closing{origin}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func everything(string) bool { return true }

const data = "data/0123456789abcdef0123456789abcdef"

func content(n int, seed byte) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

// site is an origin with one object, and a directory to cache it in.
type site struct {
	*storetest.Faulty
	dir    string
	object []byte
	log    bytes.Buffer
}

func newSite(t *testing.T, size int) *site {
	x := &site{Faulty: &storetest.Faulty{Store: &storetest.Memory{}}, dir: filepath.Join(t.TempDir(), "cache"), object: content(size, 1)}
	if err := x.Put(t.Context(), data, x.object); err != nil {
		t.Fatal(err)
	}
	return x
}

func (x *site) open(t *testing.T) *Store {
	t.Helper()
	return newStore(t, x.Faulty, Options{Dir: x.dir, Log: slog.New(slog.NewTextHandler(&x.log, nil))})
}

// get reads a range, which must be right, and returns how many requests the
// origin got for it.
func (x *site) get(t *testing.T, s *Store, off, n int) int {
	t.Helper()
	before := x.Count(storetest.Get)
	p := make([]byte, n)
	if err := s.Get(t.Context(), data, int64(off), p); err != nil {
		t.Errorf("Get(%d, %d): %v", off, n, err)
	} else if !bytes.Equal(p, x.object[off:off+n]) {
		t.Errorf("Get(%d, %d) returns other bytes", off, n)
	}
	return x.Count(storetest.Get) - before
}

func (x *site) want(t *testing.T, s *Store, off, n, requests int) {
	t.Helper()
	if got := x.get(t, s, off, n); got != requests {
		t.Errorf("Get(%d, %d) took %d requests, want %d", off, n, got, requests)
	}
}

// files returns the slab files.
func files(t *testing.T, dir string) (paths []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, folder, "*", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func (x *site) slab(t *testing.T) string {
	t.Helper()
	paths := files(t, x.dir)
	if len(paths) != 1 {
		t.Fatalf("there are %d slab files, want one: %q", len(paths), paths)
	}
	return paths[0]
}

// Every promise of a store is kept with a cache in front, of all its objects,
// and whether or not the directory can be used.
func TestConformance(t *testing.T) {
	run := func(name string, dir func(t *testing.T) string) {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Store {
				s := newStore(t, &storetest.Memory{}, Options{Dir: dir(t)})
				s.keeps = everything
				return s
			})
		})
	}
	run("in a directory", func(t *testing.T) string { return t.TempDir() })
	run("in no directory", func(t *testing.T) string { return "/proc/none" })
}

func TestServedFromDisk(t *testing.T) {
	const size = slabSize + 3*blockSize + 777
	x := newSite(t, size)
	s := x.open(t)
	x.want(t, s, 0, size, 1)
	for _, r := range [][2]int{{0, size}, {0, 1}, {size - 1, 1}, {slabSize - 1, 2}, {5, 3 * blockSize}, {size - 778, 778}, {blockSize, blockSize}} {
		x.want(t, s, r[0], r[1], 0)
	}
	s.Close()
	s = x.open(t) // as after a restart
	x.want(t, s, 0, size, 0)
	if err := s.Get(t.Context(), data, size-1, make([]byte, 2)); fault.KindOf(err) != fault.Refused {
		t.Errorf("beyond the end: %v", err)
	}
}

// What random readers left is used by one who reads it all, who asks for the
// rest in one request.
func TestPieces(t *testing.T) {
	x := newSite(t, 10*blockSize)
	s := x.open(t)
	x.want(t, s, 0, blockSize, 1)
	x.want(t, s, 9*blockSize, blockSize, 1)
	x.want(t, s, 4*blockSize+5, blockSize, 1) // begins within a block, ends within the next
	x.want(t, s, 5*blockSize, 5, 0)           // the beginning of which is kept
	x.want(t, s, 5*blockSize, 6, 1)
	x.want(t, s, 0, 10*blockSize, 1)
	if c := x.Calls()[x.Count(storetest.Get)]; c.Off != blockSize || c.Len != 8*blockSize {
		t.Errorf("the rest was asked for as %d bytes at %d", c.Len, c.Off)
	}
	x.want(t, s, 0, 10*blockSize, 0)
}

// Only data objects are kept: what is asked for because it may be there by now
// comes from the store.
// TestAtOnce: parts of one slab that are fetched at once are all kept.
func TestAtOnce(t *testing.T) {
	for range 20 {
		x := newSite(t, slabSize)
		s := x.open(t)
		var parts sync.WaitGroup
		for off := 0; off < slabSize; off += 8 * blockSize {
			parts.Go(func() { x.get(t, s, off, 8*blockSize) })
		}
		parts.Wait()
		x.want(t, s, 0, slabSize, 0)
	}
}

func TestOnlyDataIsKept(t *testing.T) {
	for name, kept := range map[string]bool{
		data: true, "place/one/" + data: true, "manifest/0000000000000001": false, "journal/0000000000000001-0000000000000001": false,
		"signature/0000000000000001": false, "place/data/manifest/0000000000000001": false, "data": false,
	} {
		x := &storetest.Faulty{Store: &storetest.Memory{}}
		if err := x.Put(t.Context(), name, []byte("x")); err != nil {
			t.Fatal(err)
		}
		s := newStore(t, x, Options{Dir: t.TempDir()})
		for range 2 {
			if err := s.Get(t.Context(), name, 0, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		if got := x.Count(storetest.Get) == 1; got != kept {
			t.Errorf("%s is kept: %v, want %v", name, got, kept)
		}
	}
}

// Objects of one name in different stores, and of different names in one, are
// told apart.
func TestVolumesShareADirectory(t *testing.T) {
	dir := t.TempDir()
	a, b := newSite(t, blockSize), newSite(t, blockSize)
	b.object = content(blockSize, 2)
	b.Store.(*storetest.Memory).Overwrite(data, b.object)
	a.dir, b.dir = dir, dir
	sa, sb := a.open(t), newStore(t, named{b.Faulty, "another"}, Options{Dir: dir})
	for requests := range []int{1, 0} {
		a.want(t, sa, 0, blockSize, 1-requests)
		b.want(t, sb, 0, blockSize, 1-requests)
	}
}

type named struct {
	storetest.Store
	name string
}

func (n named) String() string { return n.name }

// Damage of every kind costs a request, and nothing else.
func TestDamage(t *testing.T) {
	const size = 3 * blockSize
	for name, c := range map[string]struct {
		harm func(path string) error
		cost int // requests to read it all again
	}{
		"a flipped bit in a block": {flip(headerSize + blockSize + 99), 1},
		"a flipped length":         {flip(int64(tableOff)), 1},
		"a length beyond a block":  {overwrite(int64(tableOff), "\xff\xff\xff\x7f"), 1},
		"a flipped checksum":       {flip(int64(tableOff) + 4), 1},
		"a flipped magic":          {flip(0), 1},
		"cut in a block":           {func(p string) error { return os.Truncate(p, headerSize+blockSize+5) }, 1},
		"cut in the table":         {func(p string) error { return os.Truncate(p, int64(tableOff)+9) }, 1},
		"empty":                    {func(p string) error { return os.Truncate(p, 0) }, 1},
		"zeros":                    {func(p string) error { return os.WriteFile(p, make([]byte, 1<<20), 0o600) }, 1},
		"gone":                     {os.Remove, 1},
		"a directory":              {func(p string) error { return errors.Join(os.Remove(p), os.MkdirAll(p+"/a/b", 0o700)) }, 1},
		"a FIFO":                   {func(p string) error { return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o600)) }, 1},
		"a link to nothing":        {func(p string) error { return errors.Join(os.Remove(p), os.Symlink("nothing", p)) }, 1},
		"a link to itself":         {func(p string) error { return errors.Join(os.Remove(p), os.Symlink(filepath.Base(p), p)) }, 1},
		"unreadable":               {func(p string) error { return os.Chmod(p, 0) }, reader()},
		"the object's folder gone": {func(p string) error { return os.RemoveAll(filepath.Dir(p)) }, 1},
		"the volume's folder gone": {func(p string) error { return os.RemoveAll(filepath.Dir(filepath.Dir(p))) }, 1},
		"an object's folder a file": {func(p string) error {
			d := filepath.Dir(p)
			return errors.Join(os.RemoveAll(d), os.WriteFile(d, nil, 0o600))
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			x := newSite(t, size)
			s := x.open(t)
			x.want(t, s, 0, size, 1)
			if err := c.harm(x.slab(t)); err != nil {
				t.Fatal(err)
			}
			x.want(t, s, 0, size, c.cost)
			if strings.HasPrefix(name, "unreadable") || strings.HasPrefix(name, "an object's") {
				return // nothing can be kept there
			}
			x.want(t, s, 0, size, 0)
			if x.log.Len() > 0 {
				t.Errorf("it said: %s", &x.log)
			}
		})
	}
}

// reader is what reading a file without permission costs: root has it anyway.
func reader() int {
	if os.Geteuid() == 0 {
		return 0
	}
	return 1
}

func flip(at int64) func(string) error {
	return func(path string) error {
		p, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		p[at] ^= 4
		return os.WriteFile(path, p, 0o600)
	}
}

func overwrite(at int64, text string) func(string) error {
	return func(path string) error {
		p, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		copy(p[at:], text)
		return os.WriteFile(path, p, 0o600)
	}
}

// A forged block, with its checksum right, is served by Get, as no checksum can
// tell; Fresh is right, and then so is Get.
func TestForgery(t *testing.T) {
	x := newSite(t, 3*blockSize)
	s := x.open(t)
	x.get(t, s, 0, 3*blockSize)
	slabs, _ := s.slabs(data)
	root := s.place.get()
	if err := slabs.write(root, 0, make([]byte, 3*blockSize)); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, blockSize)
	if err := s.Get(t.Context(), data, 0, p); err != nil || !bytes.Equal(p, make([]byte, blockSize)) {
		t.Fatal("the forgery is not served: the test tests nothing")
	}
	if err := s.Fresh(t.Context(), data, blockSize-10, p[:20]); err != nil || !bytes.Equal(p[:20], x.object[blockSize-10:][:20]) {
		t.Errorf("Fresh: %v", err)
	}
	x.want(t, s, 0, 2*blockSize, 1)
	x.want(t, s, 0, 2*blockSize, 0)
	if err := s.Get(t.Context(), data, 2*blockSize, p); err != nil || !bytes.Equal(p, make([]byte, blockSize)) {
		t.Error("Fresh has forgotten a block that it was not asked about")
	}
}

// Whoever can write to the directory cannot have us write to anything else.
func TestNothingElseIsWritten(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	for name, plant := range map[string]func(slab string) error{
		"a symbolic link": func(p string) error { return errors.Join(os.Remove(p), os.Symlink(victim, p)) },
		"a hard link":     func(p string) error { return errors.Join(os.Remove(p), os.Link(victim, p)) },
		"a link for an object": func(p string) error {
			d := filepath.Dir(p)
			return errors.Join(os.RemoveAll(d), os.Symlink(outside, d))
		},
		"a link for everything": func(p string) error {
			d := filepath.Dir(filepath.Dir(filepath.Dir(p)))
			return errors.Join(os.RemoveAll(d), os.Symlink(outside, d))
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newSite(t, blockSize)
			x.get(t, x.open(t), 0, blockSize)
			if err := plant(x.slab(t)); err != nil {
				t.Fatal(err)
			}
			x.want(t, x.open(t), 0, blockSize, 1)
			if got, err := os.ReadFile(victim); err != nil || string(got) != "precious" {
				t.Errorf("the file outside is now %q, %v", got, err)
			}
			if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
				t.Errorf("written outside: %v, %v", left, err)
			}
		})
	}
}

func TestModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	x := newSite(t, blockSize)
	x.get(t, x.open(t), 0, blockSize)
	found := 0
	err := filepath.WalkDir(x.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if found++; err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil || found != 5 {
		t.Errorf("looked at %d files, %v", found, err)
	}
}

// A directory that is taken away while it is used is made again.
func TestLostDirectory(t *testing.T) {
	x := newSite(t, 2*blockSize)
	s := x.open(t)
	x.get(t, s, 0, blockSize)
	if err := os.RemoveAll(x.dir); err != nil {
		t.Fatal(err)
	}
	x.want(t, s, 0, blockSize, 1) // not kept: nobody knew
	x.want(t, s, 0, blockSize, 1)
	x.want(t, s, 0, blockSize, 0)
	if x.log.Len() > 0 {
		t.Errorf("it said: %s", &x.log)
	}
}

// full is a small file system of the test's own.
func full(t *testing.T, options string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A disk that is full is done without, said once, and used again when there is
// room.
func TestFullDisk(t *testing.T) {
	x := newSite(t, 40*blockSize)
	x.dir = full(t, "size=1m")
	s := x.open(t)
	s.place.retry = time.Hour
	for range 3 {
		x.get(t, s, 0, len(x.object))
	}
	for off := 0; off < len(x.object); off += blockSize {
		x.get(t, s, off, blockSize)
	}
	checkSaidOnce(t, x.log.String())
	s.place.paused = time.Now().Add(-time.Second) // as an hour later
	if err := syscall.Mount("", x.dir, "", syscall.MS_REMOUNT, "size=10m"); err != nil {
		t.Fatal(err)
	}
	x.get(t, s, 0, len(x.object))
	x.want(t, s, 0, len(x.object), 0)
	checkSaidOnce(t, x.log.String())
}

func checkSaidOnce(t *testing.T, log string) {
	t.Helper()
	if strings.Count(log, "\n") != 1 || !strings.Contains(log, "reads go on without it") {
		t.Errorf("it said, which must be one line: %q", log)
	}
}

// A directory that is read-only serves what it has.
func TestReadOnly(t *testing.T) {
	x := newSite(t, 2*blockSize)
	x.dir = full(t, "size=1m")
	x.get(t, x.open(t), 0, blockSize)
	if err := syscall.Mount("", x.dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	s := x.open(t)
	x.want(t, s, 0, blockSize, 0)
	x.want(t, s, blockSize, blockSize, 1)
	x.want(t, s, blockSize, blockSize, 1)
	checkSaidOnce(t, x.log.String())
	if err := s.Fresh(t.Context(), data, 0, make([]byte, 10)); err != nil {
		t.Errorf("Fresh: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{"too small": {Dir: t.TempDir(), Size: MinSize - 1}, "a file": {Dir: file, Size: MinSize}, "below a file": {Dir: file + "/x", Size: MinSize}} {
		if s, err := Open(closing{&storetest.Memory{}}, o); fault.KindOf(err) != fault.Usage || len(fault.Hints(err)) != 1 || s != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The store's errors are the store's, and leave nothing behind.
func TestErrors(t *testing.T) {
	x := newSite(t, 2*blockSize)
	s := x.open(t)
	p := make([]byte, blockSize)
	x.Reset(storetest.Fault{Op: storetest.Get, Err: storetest.Away})
	if err := s.Get(t.Context(), data, 0, p); !errors.Is(err, storetest.Away) {
		t.Errorf("the store is away: %v", err)
	}
	x.Reset(storetest.Fault{Op: storetest.Get, Nth: 1, Short: 100})
	if err := s.Get(t.Context(), data, 0, p); fault.KindOf(err) != fault.Refused {
		t.Errorf("the answer is short: %v", err)
	}
	if left := files(t, x.dir); len(left) != 0 {
		t.Errorf("kept of it: %q", left)
	}
	x.want(t, s, 0, blockSize, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Get(ctx, data, 0, p); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Many readers, through several caches over one directory, some of whom find
// blocks wrong.
func TestConcurrent(t *testing.T) {
	const size = 2*slabSize + 12_345
	x := newSite(t, size)
	var wg sync.WaitGroup
	for i := range 3 {
		s := x.open(t)
		for j := range 4 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), uint64(j)))
				for range 60 {
					off := r.IntN(size)
					if r.IntN(2) == 0 {
						off = off / blockSize * blockSize
					}
					p := make([]byte, 1+r.IntN(min(20*blockSize, size-off)))
					get := s.Get
					if r.IntN(5) == 0 {
						get = s.Fresh
					}
					if err := get(t.Context(), data, int64(off), p); err != nil || !bytes.Equal(p, x.object[off:off+len(p)]) {
						t.Errorf("%d bytes at %d: %v", len(p), off, err)
					}
				}
			})
		}
	}
	wg.Wait()
}
