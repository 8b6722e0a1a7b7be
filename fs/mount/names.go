//go:build linux

package mount

import "cloister/fs/format"

// namedError is an error of a read, with a way to say of which file, for a log
// that may have names.
type namedError struct {
	error
	path func() string
}

func (e *namedError) Unwrap() error { return e.error }

// named adds a file's name to an error if the log may have it.
func (i *input) named(node uint64, err error) error {
	if !i.names {
		return err
	}
	return &namedError{err, func() string { return pathOf(i.m, uint32(node)) }}
}

// pathOf returns an inode's path in the volume: of several names one. It looks
// through the whole tree, as a file's entry does not say where it is.
func pathOf(m *format.Manifest, inode uint32) string {
	if inode == rootInode {
		return ""
	}
	for dir := uint32(rootInode); dir <= m.Inodes(); dir++ {
		if a, ok := m.Attr(dir); !ok || a.Type() != format.ModeDir {
			continue
		}
		for first, end := m.Entries(dir); first < end; first++ {
			if name, child := m.Entry(first); child == inode {
				return pathOf(m, dir) + "/" + string(name)
			}
		}
	}
	return ""
}

const rootInode = 1
