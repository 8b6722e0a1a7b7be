//go:build !unix

package tree

import (
	"io/fs"

	"cloister/fs/format"
	"cloister/internal/fault"
)

const openFlags = 0

func isLoop(error) bool { return false }

func fillSystem(*Entry, fs.FileInfo) {}

func xattrs(string) ([]format.Xattr, error) { return nil, nil }

func classifySystem(error) (fault.Kind, string) { return fault.Internal, "" }
