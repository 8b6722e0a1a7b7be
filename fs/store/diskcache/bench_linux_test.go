package diskcache

import (
	"context"
	"fmt"
	"testing"

	"cloister/fs/store/storetest"
)

// BenchmarkGet reads ranges of the least and the largest size: those that are
// there, and, filling the directory, those that are not.
func BenchmarkGet(b *testing.B) {
	const size = 64 << 20
	var origin storetest.Memory
	if err := origin.Put(b.Context(), "data/00", make([]byte, size)); err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{blockSize, slabSize} {
		for _, hit := range []bool{true, false} {
			b.Run(fmt.Sprintf("%d KiB/hit=%v", n>>10, hit), func(b *testing.B) {
				s, err := Open(closing{&origin}, Options{Dir: b.TempDir(), Size: 1 << 30})
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				p := make([]byte, n)
				get := s.Get
				if !hit {
					get = func(ctx context.Context, name string, off int64, p []byte) error {
						slabs, _ := s.slabs(name)
						s.write(slabs, off, p)
						return nil
					}
				} else {
					for off := int64(0); off < size; off += slabSize {
						s.Get(b.Context(), "data/00", off, make([]byte, slabSize))
					}
				}
				b.SetBytes(int64(n))
				i := 0
				for b.Loop() {
					if err := get(b.Context(), "data/00", int64(i*n%size), p); err != nil {
						b.Fatal(err)
					}
					i++
				}
			})
		}
	}
}
