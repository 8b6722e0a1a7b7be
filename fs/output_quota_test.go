package fs

import (
	"errors"
	"syscall"
	"testing"

	"cloister/fs/store/storetest"
)

// TestAllocateReserves: what is allocated counts at once and is there for who
// allocated it, until it is given back.
func TestAllocateReserves(t *testing.T) {
	const kib, limit = 1 << 10, 1 << 20
	store := &storetest.Memory{}
	o := mustOpen(t, store, OutputOptions{MaxSize: limit})
	f, other := create(t, o, "f"), create(t, o, "other")
	free := func(what string, want uint64) {
		t.Helper()
		if got := o.StatFS().FreeBytes; got != want {
			t.Errorf("%s: %d KiB are free, want %d", what, got/kib, want/kib)
		}
	}
	full := func(what string, f *OutputFile, off int64, length int) {
		t.Helper()
		if n, err := f.WriteAt(ctx, make([]byte, length), off); n != 0 || err != syscall.ENOSPC {
			t.Errorf("%s: %d, %v", what, n, err)
		}
	}
	check(t, f.Allocate(0, 0, 512*kib))
	check(t, f.Allocate(allocKeepSize, 512*kib, 256*kib))
	free("allocated", 256*kib)
	writeAt(t, other, make([]byte, 256*kib), 0)
	full("nothing is left", other, 256*kib, 1)
	full("nor for who has allocated, elsewhere", f, 2*limit, 1)
	for round := range 3 { // over and over, dirty and sealed
		for off := int64(0); off < 768*kib; off += 64 * kib {
			writeAt(t, f, randomBytes(uint64(round), 64*kib), off)
		}
		check(t, f.Sync(ctx))
		free("written where it was allocated", 0)
	}
	check(t, f.Allocate(allocKeepSize|allocPunchHole, 100, 8*kib)) // one whole page
	free("a hole", 4*kib)
	check(t, f.Allocate(allocKeepSize|allocZeroRange, 0, 12*kib))
	free("zeros, allocated again", 0)
	check(t, f.Truncate(512*kib))
	free("shortened", 256*kib)
	check(t, f.Allocate(allocKeepSize, 512*kib, 256*kib))
	check(t, f.Truncate(512*kib))
	free("the same size takes back what is behind it", 256*kib)
	if err := f.Allocate(0, 512*kib, 260*kib); !errors.Is(err, syscall.ENOSPC) || f.n.size() != 512*kib {
		t.Errorf("more than there is: %v, and the file has %d bytes", err, f.n.size())
	}
	check(t, o.Unlink(1, "f"))
	free("unlinked and open", 256*kib)
	o.Forget(f.Inode(), 1)
	f.Release()
	free("gone", 768*kib)

	// The format has no allocation: closed, only data counts.
	check(t, other.Allocate(0, 0, limit))
	free("all", 0)
	mustClose(t, o)
	o = mustOpen(t, store, OutputOptions{MaxSize: limit})
	free("opened again", 768*kib)
	mustClose(t, o)
}
