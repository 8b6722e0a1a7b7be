package diskcache

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"cloister/fs/store/dir"

	"pgregory.net/rapid"
)

// TestModel: whatever is read in whatever order, and whatever happens to the
// directory meanwhile, the bytes are the store's.
func TestModel(t *testing.T) {
	const objects, size = 5, slabSize + 300_001
	x := newShelf(t, objects, size)
	rapid.Check(t, func(r *rapid.T) {
		x.dir = t.TempDir()
		s := x.small(t)
		defer func() { s.Close() }()
		r.Repeat(map[string]func(*rapid.T){
			"get": func(r *rapid.T) { x.model(t, r, s, s.Get) },
			"get aligned": func(r *rapid.T) {
				i, off := rapid.IntRange(0, objects-1).Draw(r, "object"), rapid.IntRange(0, size/blockSize).Draw(r, "block")*blockSize
				n := min(size-off, blockSize<<rapid.IntRange(0, 4).Draw(r, "size"))
				x.compare(t, s.Get, i, off, n)
			},
			"fresh":   func(r *rapid.T) { x.model(t, r, s, s.Fresh) },
			"restart": func(*rapid.T) { s.Close(); s = x.small(t) },
			"lose everything": func(*rapid.T) {
				if err := os.RemoveAll(x.dir); err != nil {
					t.Fatal(err)
				}
			},
			"damage a file": func(r *rapid.T) {
				x.damage(t, r)
				s.walks.Wait()
				s.walk() // it may have grown
			},
			"look at the size": func(r *rapid.T) {
				s.walks.Wait()
				if got := taken(t, x.dir); got > 4<<20 {
					r.Fatalf("the directory takes %d bytes", got)
				}
			},
		})
	})
}

func (x *shelf) model(t *testing.T, r *rapid.T, s *Store, get getter) {
	i := rapid.IntRange(0, len(x.objects)-1).Draw(r, "object")
	off := rapid.IntRange(0, len(x.objects[i])-1).Draw(r, "offset")
	x.compare(t, get, i, off, rapid.IntRange(0, min(len(x.objects[i])-off, 2<<20)).Draw(r, "length"))
}

func (x *shelf) damage(t *testing.T, r *rapid.T) {
	paths := files(t, x.dir)
	if len(paths) == 0 {
		return
	}
	path := rapid.SampledFrom(paths).Draw(r, "file")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := rapid.Int64Range(0, slabSize).Draw(r, "at")
	if rapid.Bool().Draw(r, "cut") {
		err = f.Truncate(at)
	} else {
		_, err = f.WriteAt(rapid.SliceOfN(rapid.Byte(), 1, 5000).Draw(r, "bytes"), at)
	}
	if err != nil {
		t.Fatal(err)
	}
}

const (
	childDir    = "CLOISTER_TEST_CACHE_DIR"
	childOrigin = "CLOISTER_TEST_CACHE_ORIGIN"
)

// TestKilled: processes that share a directory are killed in the middle of what
// they do, and whoever comes after reads right.
func TestKilled(t *testing.T) {
	if os.Getenv(childDir) != "" {
		churn(t)
		return
	}
	origin, err := dir.Open(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	x := newShelf(t, 4, slabSize+5000)
	for i, data := range x.objects {
		if err := origin.Put(t.Context(), x.name(i), data); err != nil {
			t.Fatal(err)
		}
	}
	for range 6 {
		var children []*exec.Cmd
		for range 2 {
			children = append(children, startChurning(t, x.dir, origin.String()))
		}
		for _, c := range children {
			c.Process.Kill()
			c.Wait()
		}
	}
	if len(files(t, x.dir)) == 0 {
		t.Error("nothing was kept: the test tests nothing")
	}
	s := newStore(t, named{x.Faulty, origin.String()}, Options{Dir: x.dir})
	for i := range x.objects {
		x.read(t, s, i)
		if !x.read(t, s, i) {
			t.Errorf("object %d is not kept now", i)
		}
	}
}

// startChurning starts a child and returns when it has read a little.
func startChurning(t *testing.T, dir, origin string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	// What a killed child leaves is below the parent's own.
	c.Env = append(os.Environ(), childDir+"="+dir, childOrigin+"="+origin, "TMPDIR="+t.TempDir())
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill() })
	lines := bufio.NewReader(out)
	for range 1 + rand.IntN(40) {
		if line, err := lines.ReadString('\n'); err != nil || line != "read\n" {
			rest, _ := io.ReadAll(lines)
			t.Fatalf("a child said %q, %v: %s", line, err, rest)
		}
	}
	return c
}

// churn is the child: it reads until it is killed.
func churn(t *testing.T) {
	origin, err := dir.Open(os.Getenv(childOrigin), false)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(origin, Options{Dir: os.Getenv(childDir), Size: MinSize})
	if err != nil {
		t.Fatal(err)
	}
	x := newShelf(t, 4, slabSize+5000)
	for {
		i, block := rand.IntN(len(x.objects)), rand.IntN(slabSize/blockSize)
		x.compare(t, s.Get, i, block*blockSize, min(1+rand.IntN(10*blockSize), len(x.objects[i])-block*blockSize))
		if t.Failed() {
			return
		}
		fmt.Println("read")
	}
}

type getter func(ctx context.Context, name string, off int64, p []byte) error

// compare reads a range of an object, which must be right.
func (x *shelf) compare(t *testing.T, get getter, i, off, n int) {
	t.Helper()
	p := make([]byte, n)
	if err := get(t.Context(), x.name(i), int64(off), p); err != nil || !bytes.Equal(p, x.objects[i][off:off+n]) {
		t.Fatalf("object %d, %d bytes at %d: %v", i, n, off, err)
	}
}
