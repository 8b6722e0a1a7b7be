//go:build unix

package diskcache

import (
	"io/fs"
	"syscall"
)

// openFlags keep a FIFO that has taken a slab's name from holding the open for
// ever.
const openFlags = syscall.O_NONBLOCK

// allocated returns what a file takes of its disk, in bytes: slab files are
// sparse. st_blocks counts 512 bytes, whatever the file system's block (stat(2)).
func allocated(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
