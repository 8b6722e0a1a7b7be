package diskcache

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cloister/fs/store/storetest"
)

// taken returns what a directory, if it is there, takes of its disk, in bytes.
func taken(t *testing.T, dir string) (total int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			total += allocated(info)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return total
}

// shelf is an origin of equal objects.
type shelf struct {
	*storetest.Faulty
	dir     string
	objects [][]byte
}

func newShelf(t *testing.T, n, size int) *shelf {
	x := &shelf{Faulty: &storetest.Faulty{Store: &storetest.Memory{}}, dir: t.TempDir()}
	for i := range n {
		x.objects = append(x.objects, content(size, byte(i)))
		if err := x.Put(t.Context(), x.name(i), x.objects[i]); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

func (x *shelf) name(i int) string { return fmt.Sprintf("data/%032x", i) }

// read reads an object, and reports whether the directory had it. It returns
// when what this set off has ended.
func (x *shelf) read(t *testing.T, s *Store, i int) (cached bool) {
	t.Helper()
	before := x.Count(storetest.Get)
	p := make([]byte, len(x.objects[i]))
	if err := s.Get(t.Context(), x.name(i), 0, p); err != nil || !bytes.Equal(p, x.objects[i]) {
		t.Fatalf("object %d: %v", i, err)
	}
	s.walks.Wait()
	return x.Count(storetest.Get) == before
}

// small is a cache of 4 MiB in steps of 512 KiB, which no user may have.
func (x *shelf) small(t *testing.T) *Store {
	s := newStore(t, x.Faulty, Options{Dir: x.dir})
	s.walks.Wait()
	s.budget = &budget{size: 4 << 20, step: 512 << 10, left: 512 << 10}
	s.walk()
	s.walks.Wait()
	return s
}

// The directory never takes more than its size, and what goes is what was used
// longest ago.
func TestEviction(t *testing.T) {
	const n, size = 100, 128 << 10
	x := newShelf(t, n, size)
	s := x.small(t)
	begin := time.Now().Add(-time.Hour)
	for i := range n {
		x.read(t, s, i)
		if got := taken(t, x.dir); got > 4<<20 {
			t.Fatalf("after %d objects the directory takes %d bytes", i+1, got)
		}
		x.age(t, i, begin.Add(time.Duration(i)*time.Second))
		if i%3 == 0 && !x.read(t, s, 0) { // touched, as its age is more than a minute
			t.Fatalf("object 0, always in use, is gone after %d others", i)
		}
	}
	held := 0
	for i := n - 1; i > 0 && x.read(t, s, i); i-- {
		held++
	}
	// The size less two steps and the least that a step leaves, in objects of
	// 128 KiB and what they take beside.
	if held < 18 {
		t.Errorf("only the newest %d objects are held", held)
	}
	dirs, err := os.ReadDir(filepath.Join(x.dir, folder, s.volume))
	if err != nil || len(dirs) > 4<<20/size {
		t.Errorf("%d directories of objects are left, %v", len(dirs), err)
	}
}

// age sets when an object, if it is held, was last used.
func (x *shelf) age(t *testing.T, i int, used time.Time) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(x.dir, folder, "*", "data,"+x.name(i)[5:], "*"))
	for _, path := range paths {
		if err == nil {
			err = os.Chtimes(path, used, used)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Several caches over one directory each stay within a step of the size, and one
// that is opened with less makes room.
func TestSharedSize(t *testing.T) {
	x := newShelf(t, 200, 128<<10)
	caches := []*Store{x.small(t), x.small(t), x.small(t)}
	for i := range x.objects {
		x.read(t, caches[i%3], i)
		if got := taken(t, x.dir); got > 4<<20+2*512<<10 {
			t.Fatalf("after %d objects the directory takes %d bytes", i+1, got)
		}
	}
	s := x.small(t)
	s.budget.size = 2 << 20
	s.walk()
	s.walks.Wait()
	if got := taken(t, x.dir); got > 2<<20 {
		t.Errorf("with half the size the directory takes %d bytes", got)
	}
}

// What cannot be removed is not tried again at every read, and nothing is added
// to it.
func TestNothingToEvict(t *testing.T) {
	x := newShelf(t, 20, 128<<10)
	s := x.small(t)
	block := filepath.Join(x.dir, folder, "foreign")
	if err := os.WriteFile(block, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s.walk()
	s.walks.Wait()
	for i := range x.objects {
		x.read(t, s, i)
	}
	if left := files(t, x.dir); len(left) != 0 {
		t.Errorf("kept beside a full directory: %q", left)
	}
	if s.budget.next.IsZero() {
		t.Error("it walks again at once")
	}
	if _, err := os.Stat(block); err != nil {
		t.Errorf("a foreign file was removed: %v", err)
	}
}
