//go:build !unix

package fs

import "cloister/fs/format"

// Where nothing is mounted, the heap serves.

func manifestMemory(n int64) []byte        { return make([]byte, n) }
func releaseMemory([]byte)                 {}
func releaseWith(*format.Manifest, []byte) {}
