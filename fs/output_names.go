package fs

import (
	"syscall"

	"cloister/fs/format"
)

// Info is an inode as the caller sees it.
type Info struct {
	Inode      uint32
	Generation uint64 // of this use of the inode number
	Attr       format.Attr
	Atime      format.Time // kept in memory only, and not updated by reads
	Blocks     uint64      // of 512 bytes: whole pages with data, or allocated
}

// New is what an inode is made as.
type New struct {
	Mode   uint32 // POSIX type and permission bits
	UID    uint32
	GID    uint32
	Rdev   uint32
	Target string // of a symlink
}

// DirEntry is a name as ReadDir tells it.
type DirEntry struct {
	Name   string
	Inode  uint32
	Mode   uint32
	Cookie uint64 // ReadDir goes on behind it
}

// Rename flags: Linux's, spelled out for systems that have none.
const (
	RenameNoReplace = 1
	RenameExchange  = 2
)

// maxLinks is where EMLINK begins: far beyond any file system's, far below
// what a count may be in the format.
const maxLinks = 1 << 24

func (o *Output) info(n *node) Info {
	i := Info{Inode: n.inode, Generation: n.generation, Attr: n.attr, Atime: n.atime}
	i.Blocks = uint64(n.charged) / 512
	return i
}

// live returns the node of an inode number.
func (o *Output) live(inode uint32) (*node, error) {
	if o.closing {
		return nil, syscall.EIO
	}
	n := o.tree.nodes[inode]
	if n == nil {
		return nil, syscall.ENOENT
	}
	return n, nil
}

func (o *Output) liveDir(inode uint32) (*node, error) {
	n, err := o.live(inode)
	if err == nil && !n.isDir() {
		err = syscall.ENOTDIR
	}
	return n, err
}

// entry returns a directory and what a name means in it.
func (o *Output) entry(dir uint32, name string) (d, n *node, err error) {
	if d, err = o.liveDir(dir); err != nil {
		return nil, nil, err
	}
	if len(name) > format.MaxName {
		return nil, nil, syscall.ENAMETOOLONG
	}
	inode := d.dir.get(name)
	if inode == 0 {
		return d, nil, syscall.ENOENT
	}
	return d, o.tree.nodes[inode], nil
}

// vacant returns a directory in which name may be made.
func (o *Output) vacant(dir uint32, name string) (*node, error) {
	d, _, err := o.entry(dir, name)
	switch {
	case err == nil:
		return nil, syscall.EEXIST
	case err != syscall.ENOENT || d == nil:
		return nil, err
	case !format.ValidName([]byte(name)):
		return nil, syscall.EINVAL
	case d.attr.Nlink == 0: // removed while somebody is in it
		return nil, syscall.ENOENT
	}
	return d, nil
}

// Lookup returns what a name means in a directory, and pins it: the inode stays
// until Forget.
func (o *Output) Lookup(dir uint32, name string) (Info, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, n, err := o.entry(dir, name)
	if err != nil {
		return Info{}, err
	}
	n.pins++
	return o.info(n), nil
}

// Parent returns what ".." means in a directory; it is not pinned.
func (o *Output) Parent(dir uint32) (Info, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	d, err := o.liveDir(dir)
	if err != nil {
		return Info{}, err
	}
	if p := o.tree.nodes[d.parent]; p != nil {
		d = p
	}
	return o.info(d), nil
}

// Forget takes back pins. An inode without name and pins is gone.
func (o *Output) Forget(inode uint32, pins uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := o.tree.nodes[inode]; n != nil {
		n.pins -= min(pins, n.pins)
		o.reap(n)
	}
}

// reap frees an inode that nothing leads to any more. Its number may be used
// again at once: a record says what it freed before what it made.
func (o *Output) reap(n *node) {
	if n.attr.Nlink > 0 || n.pins > 0 || o.tree.nodes[n.inode] != n {
		return
	}
	n.drop(&o.pool)
	o.yield(n, 0, maxFile)
	delete(o.tree.nodes, n.inode)
	o.tree.free = append(o.tree.free, n.inode)
	if !n.journaled {
		delete(o.changed, n)
	}
}

// Make makes a file, directory, symlink, fifo, socket or device (which is
// metadata only) and pins it.
func (o *Output) Make(dir uint32, name string, what New) (Info, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	d, err := o.vacant(dir, name)
	if err != nil {
		return Info{}, err
	}
	if what.Mode&format.ModeType == format.ModeDir {
		depth := o.tree.depth(d) + 1
		if depth >= format.MaxDepth {
			return Info{}, syscall.ENAMETOOLONG
		}
		if d.attr.Nlink >= maxLinks {
			return Info{}, syscall.EMLINK
		}
		o.tree.deepest = max(o.tree.deepest, depth)
	}
	n, err := o.make(d, what)
	if err != nil {
		return Info{}, err
	}
	if n.isDir() {
		n.parent, n.dir = d.inode, newDirectory()
		n.attr.Nlink = 2
	} else {
		n.attr.Nlink = 1
	}
	o.addName(d, name, n)
	n.pins++
	return o.info(n), nil
}

// MakeUnnamed makes a file without a name (O_TMPFILE) in the file system of a
// directory and pins it. Link may name it.
func (o *Output) MakeUnnamed(dir uint32, what New) (Info, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	d, err := o.liveDir(dir)
	if err != nil {
		return Info{}, err
	}
	n, err := o.make(d, what)
	if err != nil {
		return Info{}, err
	}
	n.pins++
	return o.info(n), nil
}

func (o *Output) make(d *node, what New) (*node, error) {
	now := o.now()
	attr := format.Attr{Mode: what.Mode & (format.ModeType | 0o7777), UID: what.UID, GID: what.GID, Mtime: now, Ctime: now}
	switch attr.Type() {
	case format.ModeFile, format.ModeFifo, format.ModeSocket, format.ModeDir:
	case format.ModeChar, format.ModeBlock:
		attr.Rdev = what.Rdev
	case format.ModeSymlink:
		if what.Target == "" {
			return nil, syscall.ENOENT
		}
		if len(what.Target) > format.MaxTarget {
			return nil, syscall.ENAMETOOLONG
		}
		attr.Size = uint64(len(what.Target))
	default:
		return nil, syscall.EINVAL
	}
	if d.attr.Mode&0o2000 != 0 { // a setgid directory hands its group down
		attr.GID = d.attr.GID
		if attr.Type() == format.ModeDir {
			attr.Mode |= 0o2000
		}
	}
	n, ok := o.tree.newNode(attr)
	if !ok {
		return nil, syscall.ENOSPC
	}
	n.atime, n.target = now, []byte(what.Target)
	o.touch(n, closeDelay)
	return n, nil
}

// addName gives n a name, which is free; the link count is the caller's.
func (o *Output) addName(d *node, name string, n *node) {
	o.willName(d, name)
	d.dir.set(name, n.inode)
	n.named = true
	if n.isDir() {
		d.attr.Nlink++
		n.parent = d.inode
	}
	o.dirChanged(d)
}

// dropName takes a name of n away; the link count is the caller's.
func (o *Output) dropName(d *node, name string, n *node) {
	o.willName(d, name)
	d.dir.remove(name)
	if n.isDir() {
		d.attr.Nlink--
	}
	o.dirChanged(d)
}

func (o *Output) dirChanged(d *node) {
	d.attr.Mtime = o.now()
	o.inodeChanged(d)
}

func (o *Output) inodeChanged(n *node) {
	n.attr.Ctime = o.now()
	o.touch(n, closeDelay)
}

// Link gives a file another name and pins it.
func (o *Output) Link(inode, dir uint32, name string) (Info, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.live(inode)
	if err != nil {
		return Info{}, err
	}
	d, err := o.vacant(dir, name)
	switch {
	case err != nil:
		return Info{}, err
	case n.isDir():
		return Info{}, syscall.EPERM
	case n.attr.Nlink >= maxLinks:
		return Info{}, syscall.EMLINK
	}
	n.attr.Nlink++
	o.addName(d, name, n)
	o.inodeChanged(n)
	n.pins++
	return o.info(n), nil
}

// Unlink removes a name of anything but a directory.
func (o *Output) Unlink(dir uint32, name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	d, n, err := o.entry(dir, name)
	if err != nil {
		return err
	}
	if n.isDir() {
		return syscall.EISDIR
	}
	o.unlink(d, name, n)
	return nil
}

// unlink removes a name that leads to a file or an empty directory.
func (o *Output) unlink(d *node, name string, n *node) {
	o.dropName(d, name, n)
	o.lose(n)
}

// lose counts a name of n that is gone.
func (o *Output) lose(n *node) {
	if n.isDir() {
		n.attr.Nlink = 0
	} else {
		n.attr.Nlink--
	}
	o.inodeChanged(n)
	o.reap(n)
}

// Rmdir removes an empty directory.
func (o *Output) Rmdir(dir uint32, name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	d, n, err := o.entry(dir, name)
	switch {
	case err != nil:
		return err
	case !n.isDir():
		return syscall.ENOTDIR
	case len(n.dir.names) > 0:
		return syscall.ENOTEMPTY
	}
	o.unlink(d, name, n)
	return nil
}

// Rename moves a name, over another one if there is one, as rename(2) and
// renameat2(2) say.
func (o *Output) Rename(oldDir uint32, oldName string, newDir uint32, newName string, flags uint32) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	from, n, err := o.entry(oldDir, oldName)
	if err != nil {
		return err
	}
	to, over, err := o.entry(newDir, newName)
	switch {
	case err == syscall.ENOENT && to != nil:
		if _, err := o.vacant(newDir, newName); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	switch flags {
	case 0:
	case RenameNoReplace:
		if over != nil {
			return syscall.EEXIST
		}
	case RenameExchange:
		return o.exchange(from, oldName, n, to, newName, over)
	default:
		return syscall.EINVAL
	}
	if over == n {
		return nil
	}
	if err := o.mayMove(n, to); err != nil {
		return err
	}
	if err := mayReplace(n, over); err != nil {
		return err
	}
	if over != nil && over.isDir() {
		to.attr.Nlink--
	}
	o.dropName(from, oldName, n)
	o.addName(to, newName, n) // in place: a reader of the directory sees the name once
	if over != nil {
		o.lose(over)
	}
	o.inodeChanged(n)
	return nil
}

func mayReplace(n, over *node) error {
	switch {
	case over == nil:
		return nil
	case over.isDir() && !n.isDir():
		return syscall.EISDIR
	case n.isDir() && !over.isDir():
		return syscall.ENOTDIR
	case over.isDir() && len(over.dir.names) > 0:
		return syscall.ENOTEMPTY
	}
	return nil
}

// mayMove refuses to move a directory below itself, or too deep.
func (o *Output) mayMove(n, to *node) error {
	if !n.isDir() {
		return nil
	}
	for d := to; ; d = o.tree.nodes[d.parent] {
		if d == n {
			return syscall.EINVAL
		}
		if d.inode == format.RootInode {
			break
		}
	}
	depth, height := o.tree.depth(to)+1, o.tree.deepest
	// The bound is cheap and nearly always enough; only where it is not are the
	// directories looked at.
	if depth+height >= format.MaxDepth {
		o.tree.deepest = o.tree.height(o.tree.nodes[format.RootInode])
		height = o.tree.height(n)
	}
	if depth+height >= format.MaxDepth {
		return syscall.ENAMETOOLONG
	}
	o.tree.deepest = max(o.tree.deepest, depth+height)
	return nil
}

func (o *Output) exchange(from *node, oldName string, n *node, to *node, newName string, over *node) error {
	if over == nil {
		return syscall.ENOENT
	}
	if n == over {
		return nil
	}
	if err := o.mayMove(n, to); err != nil {
		return err
	}
	if err := o.mayMove(over, from); err != nil {
		return err
	}
	if n.isDir() {
		from.attr.Nlink--
	}
	if over.isDir() {
		to.attr.Nlink--
	}
	o.addName(to, newName, n)
	o.addName(from, oldName, over)
	o.inodeChanged(n)
	o.inodeChanged(over)
	return nil
}

// ReadDir calls yield for the names of a directory that were made after the
// one with cookie (0: from the first), until it returns false. "." and ".."
// are the caller's to add; cookies begin at 3. yield must not call the Output.
func (o *Output) ReadDir(dir uint32, cookie uint64, yield func(DirEntry) bool) error {
	return o.readDir(dir, cookie, func(e *dirent, n *node) bool {
		return yield(DirEntry{Name: e.name, Inode: e.inode, Mode: n.attr.Mode, Cookie: e.cookie})
	})
}

// ReadDirPlus is ReadDir with what Lookup would return of each name; each for
// which yield returns true is pinned.
func (o *Output) ReadDirPlus(dir uint32, cookie uint64, yield func(DirEntry, Info) bool) error {
	return o.readDir(dir, cookie, func(e *dirent, n *node) bool {
		ok := yield(DirEntry{Name: e.name, Inode: e.inode, Mode: n.attr.Mode, Cookie: e.cookie}, o.info(n))
		if ok {
			n.pins++
		}
		return ok
	})
}

func (o *Output) readDir(dir uint32, cookie uint64, yield func(*dirent, *node) bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	d, err := o.liveDir(dir)
	if err != nil {
		return err
	}
	for _, e := range d.dir.after(cookie) {
		if e.inode != 0 && !yield(e, o.tree.nodes[e.inode]) {
			break
		}
	}
	return nil
}

// Readlink returns the target of a symlink.
func (o *Output) Readlink(inode uint32) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.live(inode)
	if err != nil {
		return nil, err
	}
	if n.attr.Type() != format.ModeSymlink {
		return nil, syscall.EINVAL
	}
	return n.target, nil
}
