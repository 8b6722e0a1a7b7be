package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"cloister/fs/store/object"
	"cloister/internal/fault"
)

// Run tries every promise of a store on the stores that open returns, each of
// them empty and the test's own.
func Run(t *testing.T, open func(t *testing.T) Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Store)
	}{
		{"a put object reads back in any range", testRanges},
		{"an empty object", testEmpty},
		{"an absent object", testAbsent},
		{"a taken name", testTaken},
		{"one of many writers wins", testRace},
		{"listing", testListing},
		{"a listing longer than a page", testManyEntries},
		{"a listing left early", testListStop},
		{"delete", testDelete},
		{"names", testNames},
		{"a cancelled context", testCancelled},
		{"many readers at once", testReaders},
		{"a large object", testLarge},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func random(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(p)
	return p
}

func mustPut(t *testing.T, s Store, name string, data []byte) {
	t.Helper()
	if err := s.Put(t.Context(), name, data); err != nil {
		t.Fatalf("Put(%q): %v", name, err)
	}
}

// wantErr fails unless err is of the kind, wraps target and names the object.
func wantErr(t *testing.T, what string, err, target error, kind fault.Kind, name string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: error %v, want one that wraps %q", what, err, target)
		return
	}
	if got := fault.KindOf(err); got != kind {
		t.Errorf("%s: kind %v, want %v: %v", what, got, kind, err)
	}
	if !strings.Contains(err.Error(), name) {
		t.Errorf("%s: %q does not name %s", what, err, name)
	}
}

func testRanges(t *testing.T, s Store) {
	data := random(100_000)
	mustPut(t, s, "d/ranges", data)
	n := int64(len(data))
	for _, r := range [][2]int64{{0, n}, {0, 1}, {n - 1, 1}, {1, n - 1}, {65_535, 2}, {4096, 4096}, {0, 0}, {17, 0}, {n, 0}} {
		p := make([]byte, r[1])
		if err := s.Get(t.Context(), "d/ranges", r[0], p); err != nil {
			t.Errorf("Get(%d, %d): %v", r[0], r[1], err)
		} else if !bytes.Equal(p, data[r[0]:r[0]+r[1]]) {
			t.Errorf("Get(%d, %d) returns other bytes", r[0], r[1])
		}
	}
	for _, r := range [][2]int64{{0, n + 1}, {n - 1, 2}, {n, 1}, {n + 1, 0}, {n + 100, 5}, {1 << 40, 1}} {
		err := s.Get(t.Context(), "d/ranges", r[0], make([]byte, r[1]))
		wantErr(t, fmt.Sprintf("Get(%d, %d)", r[0], r[1]), err, io.ErrUnexpectedEOF, fault.Refused, "d/ranges")
	}
	if s.Get(t.Context(), "d/ranges", -1, make([]byte, 1)) == nil {
		t.Error("Get accepts a negative offset")
	}
	if size, err := s.Size(t.Context(), "d/ranges"); err != nil || size != n {
		t.Errorf("Size = %d, %v, want %d", size, err, n)
	}
}

func testEmpty(t *testing.T, s Store) {
	mustPut(t, s, "d/empty", nil)
	if size, err := s.Size(t.Context(), "d/empty"); err != nil || size != 0 {
		t.Errorf("Size = %d, %v, want 0", size, err)
	}
	if err := s.Get(t.Context(), "d/empty", 0, nil); err != nil {
		t.Errorf("Get of nothing: %v", err)
	}
	wantErr(t, "Get of a byte", s.Get(t.Context(), "d/empty", 0, make([]byte, 1)), io.ErrUnexpectedEOF, fault.Refused, "d/empty")
	if got := names(t, s, ""); !slices.Equal(got, []string{"d/empty"}) {
		t.Errorf("List = %q", got)
	}
}

func testAbsent(t *testing.T, s Store) {
	for _, name := range []string{"absent", "no/such/place"} {
		wantErr(t, "Get", s.Get(t.Context(), name, 0, make([]byte, 1)), object.ErrNotExist, fault.NotFound, name)
		wantErr(t, "Get of nothing", s.Get(t.Context(), name, 0, nil), object.ErrNotExist, fault.NotFound, name)
		_, err := s.Size(t.Context(), name)
		wantErr(t, "Size", err, object.ErrNotExist, fault.NotFound, name)
	}
}

func testTaken(t *testing.T, s Store) {
	for _, size := range []int{10, 9 << 20} { // in one request, and in blocks
		name := fmt.Sprintf("d/taken%d", size)
		data := random(size)
		mustPut(t, s, name, data)
		wantErr(t, "Put of other bytes", s.Put(t.Context(), name, random(size+1)), object.ErrExist, fault.Conflict, name)
		wantErr(t, "Put of the same bytes", s.Put(t.Context(), name, data), object.ErrExist, fault.Conflict, name)
		got := make([]byte, size)
		if err := s.Get(t.Context(), name, 0, got); err != nil || !bytes.Equal(got, data) {
			t.Errorf("the first object of %d bytes is not what is there: %v", size, err)
		}
	}
}

func testRace(t *testing.T, s Store) {
	for _, size := range []int{1000, 9 << 20} {
		name := fmt.Sprintf("d/race%d", size)
		var winner atomic.Int32
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				data := bytes.Repeat([]byte{byte(i + 1)}, size)
				err := s.Put(t.Context(), name, data)
				if err == nil && !winner.CompareAndSwap(0, int32(i+1)) {
					t.Errorf("writers %d and %d both made %s", winner.Load(), i+1, name)
				}
				if err != nil && !errors.Is(err, object.ErrExist) {
					t.Errorf("writer %d: %v", i+1, err)
				}
			})
		}
		wg.Wait()
		got := make([]byte, size)
		if err := s.Get(t.Context(), name, 0, got); err != nil {
			t.Fatal(err)
		}
		if want := bytes.Repeat([]byte{byte(winner.Load())}, size); !bytes.Equal(got, want) {
			t.Errorf("%s does not hold the bytes of writer %d, who was told to have made it", name, winner.Load())
		}
	}
}

func names(t *testing.T, s Store, prefix string) []string {
	t.Helper()
	var got []string
	for e, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("List(%q): %v", prefix, err)
		}
		got = append(got, e.Name)
	}
	return got
}

func testListing(t *testing.T, s Store) {
	if got := names(t, s, ""); len(got) != 0 {
		t.Errorf("an empty store lists %q", got)
	}
	all := []string{"a-b", "a/b", "a/b0", "a0", "d/0", "d/01/x", "d/1", "dd", "m/0"}
	for i, name := range slices.Backward(all) {
		mustPut(t, s, name, make([]byte, i))
	}
	for _, c := range []struct {
		prefix string
		want   []string
	}{
		{"", all},
		{"d", []string{"d/0", "d/01/x", "d/1", "dd"}},
		{"d/", []string{"d/0", "d/01/x", "d/1"}},
		{"d/0", []string{"d/0", "d/01/x"}},
		{"d/01/", []string{"d/01/x"}},
		{"a/b", []string{"a/b", "a/b0"}},
		{"x", nil},
		{"d/0/", nil},
	} {
		if got := names(t, s, c.prefix); !slices.Equal(got, c.want) {
			t.Errorf("List(%q) = %q, want %q", c.prefix, got, c.want)
		}
	}
	i := 0
	for e := range s.List(t.Context(), "") {
		if e.Size != int64(i) {
			t.Errorf("%s is listed with %d bytes, want %d", e.Name, e.Size, i)
		}
		i++
	}
}

func testManyEntries(t *testing.T, s Store) {
	var want []string
	for i := range 25 { // the stores under test page by 10
		want = append(want, fmt.Sprintf("d/%04d", i))
		mustPut(t, s, want[i], []byte{byte(i)})
	}
	if got := names(t, s, "d/"); !slices.Equal(got, want) {
		t.Errorf("List = %q, want %q", got, want)
	}
}

func testListStop(t *testing.T, s Store) {
	for _, name := range []string{"a", "b", "c/d", "c/e", "f"} {
		mustPut(t, s, name, nil)
	}
	for stop := 1; stop <= 5; stop++ {
		seen := 0
		for _, err := range s.List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			if seen++; seen == stop {
				break
			}
		}
		if seen != stop {
			t.Errorf("saw %d entries, want %d", seen, stop)
		}
	}
}

func testDelete(t *testing.T, s Store) {
	mustPut(t, s, "d/gone", []byte("x"))
	if err := s.Get(t.Context(), "d/gone", 0, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Delete(t.Context(), "d/gone"); err != nil {
			t.Errorf("Delete: %v", err)
		}
	}
	wantErr(t, "Get after Delete", s.Get(t.Context(), "d/gone", 0, make([]byte, 1)), object.ErrNotExist, fault.NotFound, "d/gone")
	mustPut(t, s, "d/gone", []byte("another"))
	if size, err := s.Size(t.Context(), "d/gone"); err != nil || size != 7 {
		t.Errorf("Size of the object put after Delete = %d, %v", size, err)
	}
	if err := s.Delete(t.Context(), "never/was"); err != nil {
		t.Errorf("Delete of an absent object: %v", err)
	}
}

func testNames(t *testing.T, s Store) {
	for _, name := range []string{"", ".", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "a/", ".hidden", `..\x`, "a\x00b", "é", "a b", "a?b", "a%2fb"} {
		if s.Put(t.Context(), name, nil) == nil {
			t.Errorf("Put accepts the name %q", name)
		}
		if s.Get(t.Context(), name, 0, make([]byte, 1)) == nil {
			t.Errorf("Get accepts the name %q", name)
		}
		if _, err := s.Size(t.Context(), name); err == nil {
			t.Errorf("Size accepts the name %q", name)
		}
		if s.Delete(t.Context(), name) == nil {
			t.Errorf("Delete accepts the name %q", name)
		}
	}
	long := strings.Repeat("0123456789abcdef", 15) // 240 bytes
	mustPut(t, s, "d/"+long, []byte("long"))
	if got := names(t, s, "d/"); !slices.Equal(got, []string{"d/" + long}) {
		t.Errorf("List = %q", got)
	}
}

func testCancelled(t *testing.T, s Store) {
	mustPut(t, s, "d/here", []byte("here"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check := func(what string, err error) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s under a cancelled context: %v", what, err)
		}
	}
	check("Get", s.Get(ctx, "d/here", 0, make([]byte, 4)))
	_, err := s.Size(ctx, "d/here")
	check("Size", err)
	check("Put", s.Put(ctx, "d/new", []byte("x")))
	check("Delete", s.Delete(ctx, "d/here"))
	err = nil
	for _, err = range s.List(ctx, "") {
	}
	check("List", err)
	if got := names(t, s, ""); !slices.Equal(got, []string{"d/here"}) {
		t.Errorf("after the cancelled calls the store lists %q", got)
	}
}

func testReaders(t *testing.T, s Store) {
	data := random(1 << 20)
	for i := range 4 {
		mustPut(t, s, fmt.Sprintf("d/%d", i), data[i:])
	}
	var wg sync.WaitGroup
	for r := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(r)))
			for range 25 {
				i := rng.IntN(4)
				off := rng.IntN(len(data) - i - 5000)
				p := make([]byte, rng.IntN(5000))
				if err := s.Get(t.Context(), fmt.Sprintf("d/%d", i), int64(off), p); err != nil {
					t.Error(err)
				} else if !bytes.Equal(p, data[i+off:i+off+len(p)]) {
					t.Errorf("object %d at %d: other bytes", i, off)
				}
			}
		})
	}
	wg.Wait()
}

func testLarge(t *testing.T, s Store) {
	data := random(20<<20 + 12_345)
	mustPut(t, s, "m/large", data)
	if size, err := s.Size(t.Context(), "m/large"); err != nil || size != int64(len(data)) {
		t.Errorf("Size = %d, %v, want %d", size, err, len(data))
	}
	got := make([]byte, len(data))
	if err := s.Get(t.Context(), "m/large", 0, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the object does not read back: %v", err)
	}
}
