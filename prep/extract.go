package prep

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path"
	"slices"

	"golang.org/x/sync/errgroup"

	"cloister/fs/format"
	"cloister/internal/fault"
	"cloister/prep/tree"
)

// extraction makes the folder of a manifest below an os.Root: first directories
// and empty files, then contents, object by object in any order, and at last
// links, devices and attributes, deepest first. Symlinks come after everything
// that is opened by a path, and os.Root would follow none out of the folder.
type extraction struct {
	store    Store
	m        *format.Manifest
	paths    *paths
	progress Progress
	options  tree.Options
	result   Decrypted
	root     *os.Root
}

func (x *extraction) into(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return tree.Explain("opening", dir, err)
	}
	defer root.Close()
	x.root = root
	if err := x.makeAll(ctx); err != nil {
		return err
	}
	if err := x.fill(ctx); err != nil {
		return err
	}
	if err := x.finish(ctx, format.RootInode, "."); err != nil {
		return err
	}
	return x.sync()
}

// sync makes the whole folder durable before it is shown.
func (x *extraction) sync() error {
	d, err := x.root.Open(".")
	if err != nil {
		return tree.Explain("opening", ".", err)
	}
	defer d.Close()
	a, _ := x.m.Attr(format.RootInode)
	if err := tree.Restore(d, ".", a, x.m.Xattrs(format.RootInode), x.options); err != nil {
		return tree.Explain("restoring the attributes of", ".", err)
	}
	if err := tree.Sync(d); err != nil {
		return tree.Explain("making durable", ".", err)
	}
	return nil
}

// makeAll makes directories, and files of their full length, all hole.
func (x *extraction) makeAll(ctx context.Context) error {
	return x.walk(ctx, format.RootInode, ".", func(name string, inode uint32, a format.Attr) error {
		switch a.Type() {
		case format.ModeDir:
			x.result.Directories++
			if inode == format.RootInode {
				return nil
			}
			if err := x.root.Mkdir(name, 0o700); err != nil {
				return tree.Explain("making", name, err)
			}
		case format.ModeFile:
			x.result.Files++
			x.result.Bytes += a.Size
			return x.makeFile(name, int64(a.Size))
		}
		return nil
	})
}

func (x *extraction) makeFile(name string, size int64) error {
	f, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return tree.Explain("making", name, err)
	}
	if size > 0 {
		err = f.Truncate(size)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return tree.Explain("making", name, err)
	}
	return nil
}

// walk calls visit for a directory and all below it, once for each inode,
// directories before what is in them.
func (x *extraction) walk(ctx context.Context, dir uint32, at string, visit func(name string, inode uint32, a format.Attr) error) error {
	a, _ := x.m.Attr(dir)
	if err := visit(at, dir, a); err != nil {
		return err
	}
	first, end := x.m.Entries(dir)
	for i := first; i < end; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		entry, inode := x.m.Entry(i)
		if !tree.Local(string(entry)) {
			return fault.Errorf(fault.Refused, "decrypt it on Linux", "this system cannot have a file named %q", entry)
		}
		if !x.paths.isFirst(i, inode) {
			continue
		}
		a, _ := x.m.Attr(inode)
		name := path.Join(at, string(entry))
		var err error
		if a.Type() == format.ModeDir {
			err = x.walk(ctx, inode, name, visit)
		} else {
			err = visit(name, inode, a)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// part is an extent of a file, by the object it is in.
type part struct {
	object, inode uint32
	off           int64 // in the object's plaintext
	length        int64
	fileOff       int64
}

// fill writes contents: every object is fetched once, and opened in order.
func (x *extraction) fill(ctx context.Context) error {
	var parts []part
	var total int64
	for inode := uint32(1); inode <= x.m.Inodes(); inode++ {
		if a, _ := x.m.Attr(inode); a.Type() != format.ModeFile {
			continue
		}
		for e := range x.m.Extents(inode, 0) {
			parts = append(parts, part{e.Object, inode, int64(e.ObjectOff), int64(e.Length), int64(e.FileOff)})
			total += int64(e.Length)
		}
	}
	x.progress.Total(total)
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(a.object, b.object), cmp.Compare(a.off, b.off), cmp.Compare(a.inode, b.inode))
	})
	size := windowOf(x.m)
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(transfers)
	buffers := make(chan []byte, transfers)
	for range transfers {
		buffers <- nil
	}
	for len(parts) > 0 && running.Err() == nil {
		n := 1
		for n < len(parts) && parts[n].object == parts[0].object {
			n++
		}
		ofObject := parts[:n]
		parts = parts[n:]
		group.Go(func() error {
			buffer := <-buffers
			if buffer == nil {
				buffer = make([]byte, size)
			}
			defer func() { buffers <- buffer }()
			return x.fillFrom(running, ofObject, buffer)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// fillFrom writes the parts of one object, sorted by where they begin in it.
func (x *extraction) fillFrom(ctx context.Context, parts []part, buffer []byte) error {
	o, err := newObject(x.m, parts[0].object)
	if err != nil {
		return err
	}
	w := partWriter{x: x, parts: parts}
	defer w.close()
	err = o.open(ctx, x.store, buffer, func(_, plainOff int64, plain []byte, err error) error {
		if err != nil {
			return err
		}
		return w.write(plainOff, plain)
	})
	if err != nil && isDamage(err) {
		return fault.Errorf(fault.Refused, "`cloister prep verify` lists every file that is touched; upload the volume again, or restore it from a copy",
			"object %s of %s is damaged: %w", o.name, x.store, err)
	}
	return err
}

// partWriter writes the parts of an object while its plaintext comes by.
type partWriter struct {
	x     *extraction
	parts []part // sorted by off; those that end before what comes are dropped
	file  *os.File
	inode uint32 // of file
}

func (w *partWriter) write(plainOff int64, plain []byte) error {
	end := plainOff + int64(len(plain))
	for len(w.parts) > 0 && w.parts[0].off+w.parts[0].length <= plainOff {
		w.parts = w.parts[1:]
	}
	for _, p := range w.parts {
		if p.off >= end {
			break
		}
		from, to := max(p.off, plainOff), min(p.off+p.length, end)
		if from >= to {
			continue // a part that shares bytes with a longer one
		}
		if err := w.open(p.inode); err != nil {
			return err
		}
		if _, err := w.file.WriteAt(plain[from-plainOff:to-plainOff], p.fileOff+from-p.off); err != nil {
			return tree.Explain("writing", w.x.paths.of(p.inode), err)
		}
		w.x.progress.Done(to - from)
	}
	return nil
}

func (w *partWriter) open(inode uint32) error {
	if w.file != nil && w.inode == inode {
		return nil
	}
	if err := w.close(); err != nil {
		return err
	}
	name := w.x.paths.of(inode)
	f, err := w.x.root.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return tree.Explain("opening", name, err)
	}
	w.file, w.inode = f, inode
	return nil
}

func (w *partWriter) close() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	if err != nil {
		return tree.Explain("writing", w.x.paths.of(w.inode), err)
	}
	return nil
}

// finish makes links and devices in a directory and below, and restores
// attributes, those of a directory after all that is in it.
func (x *extraction) finish(ctx context.Context, dir uint32, at string) error {
	d, err := x.root.Open(at)
	if err != nil {
		return tree.Explain("opening", at, err)
	}
	defer d.Close()
	first, end := x.m.Entries(dir)
	for i := first; i < end; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := x.finishEntry(ctx, d, at, i); err != nil {
			return err
		}
	}
	return nil
}

func (x *extraction) finishEntry(ctx context.Context, d *os.File, at string, i uint32) error {
	entry, inode := x.m.Entry(i)
	name := path.Join(at, string(entry))
	a, _ := x.m.Attr(inode)
	if !x.paths.isFirst(i, inode) {
		return x.link(name, inode)
	}
	made, err := true, error(nil)
	switch a.Type() {
	case format.ModeDir:
		if err := x.finish(ctx, inode, name); err != nil {
			return err
		}
	case format.ModeFile:
	case format.ModeSymlink:
		x.result.Others++
		err = x.root.Symlink(string(x.m.Target(inode)), name)
	default:
		x.result.Others++
		made, err = tree.Node(d, string(entry), a, x.options)
	}
	if err != nil {
		return tree.Explain("making", name, err)
	}
	if !made {
		x.result.Others--
		x.result.Skipped = append(x.result.Skipped, escaped(name))
		return nil
	}
	if err := tree.Restore(d, string(entry), a, x.m.Xattrs(inode), x.options); err != nil {
		return tree.Explain("restoring the attributes of", name, err)
	}
	return nil
}

// link makes another name of an inode. Its first name comes before in the walk;
// a device that was not made has none.
func (x *extraction) link(name string, inode uint32) error {
	err := x.root.Link(x.paths.of(inode), name)
	if errors.Is(err, os.ErrNotExist) && slices.Contains(x.result.Skipped, escaped(x.paths.of(inode))) {
		x.result.Skipped = append(x.result.Skipped, escaped(name))
		return nil
	}
	if err != nil {
		return tree.Explain("linking", name, err)
	}
	return nil
}
