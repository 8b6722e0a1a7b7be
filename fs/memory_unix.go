//go:build unix

package fs

import (
	"runtime"
	"syscall"

	"cloister/fs/format"
)

// leastMapped is the size from which a manifest is worth a mapping of its own:
// below, the heap is cheaper and the collector does not mind.
const leastMapped = 1 << 20

// manifestMemory returns n zero bytes to read a manifest into. A large one is
// kept out of the collector's sight: it lets garbage grow in proportion to what
// is live, which would double the memory of a volume of a million files.
func manifestMemory(n int64) []byte {
	if n >= leastMapped {
		b, err := syscall.Mmap(-1, 0, int(n), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		if err == nil {
			return b
		}
		// Without a mapping the heap serves as well, with more garbage.
	}
	return make([]byte, n)
}

// releaseMemory gives a manifest's memory back to the system; it does nothing
// for memory of the heap.
func releaseMemory(b []byte) {
	if len(b) >= leastMapped {
		_ = syscall.Munmap(b) // EINVAL: it was not mapped
	}
}

// releaseWith releases the memory when nobody can reach m any more: a listing
// may be under way when a volume is closed that was detached.
func releaseWith(m *format.Manifest, b []byte) {
	runtime.AddCleanup(m, releaseMemory, b)
}
