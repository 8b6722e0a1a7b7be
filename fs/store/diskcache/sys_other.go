//go:build !unix

package diskcache

import "io/fs"

const openFlags = 0

// allocated returns what a file takes of its disk, in bytes, at most.
func allocated(info fs.FileInfo) int64 { return info.Size() }
