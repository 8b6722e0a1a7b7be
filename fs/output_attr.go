package fs

import (
	"context"
	"maps"
	"slices"
	"strings"
	"syscall"

	"cloister/fs/format"
)

// Change says which attributes SetAttr sets; nil stays as it is.
type Change struct {
	Mode  *uint32 // permission bits
	UID   *uint32
	GID   *uint32
	Size  *uint64
	Atime *format.Time
	Mtime *format.Time
	Ctime *format.Time // nil: now
	// KillSetID takes set-user-ID away, and set-group-ID from who may run it, as
	// a change by somebody who is not privileged does.
	KillSetID bool
}

// Now returns the time the Output would give a file that changes now.
func (o *Output) Now() format.Time { return o.now() }

// GetAttr returns the attributes of an inode.
func (o *Output) GetAttr(inode uint32) (Info, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.live(inode)
	if err != nil {
		return Info{}, err
	}
	return o.info(n), nil
}

// SetAttr changes attributes. Who may is the kernel's to decide.
func (o *Output) SetAttr(inode uint32, c Change) (Info, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.live(inode)
	if err != nil {
		return Info{}, err
	}
	if c.Size != nil {
		if err := o.truncate(n, *c.Size); err != nil {
			return Info{}, err
		}
	}
	if c.Mode != nil {
		n.attr.Mode = n.attr.Type() | *c.Mode&0o7777
	}
	assign(&n.attr.UID, c.UID)
	assign(&n.attr.GID, c.GID)
	if c.KillSetID {
		n.killSetID()
	}
	assign(&n.atime, c.Atime)
	assign(&n.attr.Mtime, c.Mtime)
	n.attr.Ctime = o.now()
	assign(&n.attr.Ctime, c.Ctime)
	o.touch(n, closeDelay)
	return o.info(n), nil
}

// killSetID leaves set-group-ID where the group may not run the file: there it
// marks mandatory locking.
func (n *node) killSetID() {
	if n.isDir() {
		return
	}
	n.attr.Mode &^= 0o4000
	if n.attr.Mode&0o010 != 0 {
		n.attr.Mode &^= 0o2000
	}
}

func assign[T any](dst *T, value *T) {
	if value != nil {
		*dst = *value
	}
}

// truncate sets the size of a file. What is cut off is gone: a file made
// longer again reads as zeros there.
func (o *Output) truncate(n *node, size uint64) error {
	switch {
	case n.isDir():
		return syscall.EISDIR
	case !n.isFile():
		return syscall.EINVAL
	case size > maxFile:
		return syscall.EFBIG
	}
	if int64(size) <= n.size() { // what is allocated behind the end goes too
		o.yield(n, int64(size), maxFile)
		n.erase(&o.pool, int64(size), n.size())
		o.proceed()
	}
	n.attr.Size = size
	n.attr.Mtime = o.now()
	return nil
}

// maxFile is the longest a file may be: the format's 2^63 - 1 bytes, less what
// keeps sums of offsets from overflowing.
const maxFile = 1 << 62

// Flags of SetXattr: Linux's.
const (
	XattrCreate  = 1
	XattrReplace = 2
)

// GetXattr returns the value of an extended attribute; the caller must not
// change it.
func (o *Output) GetXattr(inode uint32, name string) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.live(inode)
	if err != nil {
		return nil, err
	}
	value, ok := n.xattrs[name]
	if !ok {
		return nil, syscall.ENODATA
	}
	return value, nil
}

// ListXattr returns the names of the extended attributes, ascending.
func (o *Output) ListXattr(inode uint32) ([]string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.live(inode)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(n.xattrs)), nil
}

// SetXattr sets an extended attribute. Access control lists are refused: they
// would be kept and not obeyed.
func (o *Output) SetXattr(inode uint32, name string, value []byte, flags uint32) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.live(inode)
	if err != nil {
		return err
	}
	_, exists := n.xattrs[name]
	switch {
	case strings.HasPrefix(name, "system."):
		return syscall.EOPNOTSUPP
	case name == "" || len(name) > format.MaxName:
		return syscall.ERANGE
	case len(value) > format.MaxXattrValue:
		return syscall.E2BIG
	case flags&XattrCreate != 0 && exists:
		return syscall.EEXIST
	case flags&XattrReplace != 0 && !exists:
		return syscall.ENODATA
	}
	total := 2 + 5 + len(name) + len(value)
	for other, v := range n.xattrs {
		if other != name {
			total += 5 + len(other) + len(v)
		}
	}
	if total > format.MaxXattrs {
		return syscall.ENOSPC
	}
	if n.xattrs == nil {
		n.xattrs = map[string][]byte{}
	}
	n.xattrs[name] = slices.Clone(value)
	o.inodeChanged(n)
	return nil
}

// RemoveXattr removes an extended attribute.
func (o *Output) RemoveXattr(inode uint32, name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.live(inode)
	if err != nil {
		return err
	}
	if _, ok := n.xattrs[name]; !ok {
		return syscall.ENODATA
	}
	delete(n.xattrs, name)
	o.inodeChanged(n)
	return nil
}

// SyncDir returns when all names and attributes are durable, those of dir
// among them.
func (o *Output) SyncDir(ctx context.Context, dir uint32) error {
	o.mu.Lock()
	n, err := o.liveDir(dir)
	o.mu.Unlock()
	if err != nil {
		return err
	}
	return o.sync(ctx, n)
}
