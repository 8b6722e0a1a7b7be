//go:build !linux

package tree

import "os"

// Data yields the whole file: holes are looked for on Linux only.
func Data(_ *os.File, size int64, yield func(off, length int64) error) error {
	if size == 0 {
		return nil
	}
	return yield(0, size)
}
