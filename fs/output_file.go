package fs

import (
	"context"
	"syscall"
)

// OutputFile is an open file. It learns of every flush of the file that failed since
// it was opened, once, at its next Sync or Flush: what Linux calls errseq.
type OutputFile struct {
	o    *Output
	n    *node
	seen uint64 // failures told; Output.mu guards it
}

// Open opens a file.
func (o *Output) Open(inode uint32) (*OutputFile, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.live(inode)
	if err != nil {
		return nil, err
	}
	if n.isDir() {
		return nil, syscall.EISDIR
	}
	if !n.isFile() {
		return nil, syscall.ENXIO
	}
	n.pins++
	return &OutputFile{o: o, n: n, seen: n.failures}, nil
}

// Inode returns the file's inode number.
func (f *OutputFile) Inode() uint32 { return f.n.inode }

// Release ends the use of f. What was not flushed is flushed like after
// Flush; errors are in Output.Close.
func (f *OutputFile) Release() {
	f.o.mu.Lock()
	defer f.o.mu.Unlock()
	f.n.pins--
	f.o.reap(f.n)
}

// ReadAt reads into p from off and returns how many bytes there were: fewer
// than len(p) at the end of the file only.
func (f *OutputFile) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	f.o.mu.Lock()
	if f.o.closing {
		f.o.mu.Unlock()
		return 0, syscall.EIO
	}
	n := int(max(0, min(int64(len(p)), f.n.size()-off)))
	reads := f.n.load(p[:n], off)
	f.o.mu.Unlock()
	if err := f.o.readObjects(ctx, reads); err != nil {
		return 0, ioError(err)
	}
	return n, nil
}

// WriteAt writes p at off. It waits where memory is short, and fails then, if
// the store takes nothing: nothing of p is written in that case.
func (f *OutputFile) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	return f.write(ctx, p, func() int64 { return off })
}

// Append writes p at the end of the file, wherever that is by then.
func (f *OutputFile) Append(ctx context.Context, p []byte) (int, error) {
	return f.write(ctx, p, f.n.size)
}

// writePiece is how much is written between two looks at the budget, so that a
// huge write does not exceed it by its size.
const writePiece = 1 << 20

func (f *OutputFile) write(ctx context.Context, p []byte, where func() int64) (int, error) {
	f.o.mu.Lock()
	defer f.o.mu.Unlock()
	off := where()
	written := 0
	for {
		piece := p[written:min(len(p), written+writePiece)]
		switch {
		case off < 0:
			return 0, syscall.EINVAL
		case off+int64(len(p)) > maxFile || off > maxFile:
			return 0, syscall.EFBIG
		}
		if err := f.o.room(ctx, len(piece)/pageSize+2); err != nil {
			if written > 0 {
				return written, nil
			}
			return 0, err
		}
		if written == 0 {
			off = where() // room may have let others write
			if !f.o.affords(f.n, off, int64(len(p))) {
				return 0, syscall.ENOSPC
			}
		}
		at := off + int64(written)
		f.n.store(&f.o.pool, at, piece)
		f.n.attr.Size = max(f.n.attr.Size, uint64(at)+uint64(len(piece)))
		f.o.hold(f.n, at, at+int64(len(piece)))
		written += len(piece)
		f.o.written += uint64(len(piece))
		if len(p) > 0 {
			f.wrote()
			f.o.stream(f.n, at, len(piece))
		}
		if written == len(p) {
			return written, nil
		}
	}
}

func (f *OutputFile) wrote() {
	now := f.o.now()
	f.n.attr.Mtime, f.n.attr.Ctime = now, now
	f.o.touch(f.n, openDelay)
}

// stream sees to it that a file which is written from front to back leaves
// memory as it comes.
func (o *Output) stream(n *node, off int64, length int) {
	if off != n.runEnd {
		n.run = 0
	}
	n.run, n.runEnd = n.run+int64(length), off+int64(length)
	if n.run >= o.streamed && !o.hungry && !o.opts.AtEnd {
		o.hungry = true
		o.kick()
	}
}

// room waits until the budget has room for some more pages, and asks for
// memory before it is short.
func (o *Output) room(ctx context.Context, more int) error {
	starved := o.starved
	for {
		switch {
		case o.closing:
			return syscall.EIO
		case o.dead != nil:
			return ioError(o.dead)
		}
		if o.opts.AtEnd && o.pool.inUse+more > o.limit {
			return syscall.ENOSPC
		}
		if o.pool.inUse+more > o.limit/2 && !o.hungry && !o.opts.AtEnd {
			o.hungry = true
			o.kick()
		}
		if o.pool.inUse+more <= o.limit {
			return nil
		}
		if o.starved != starved {
			return syscall.EIO
		}
		progress := o.progress
		o.mu.Unlock()
		select {
		case <-progress:
		case <-ctx.Done():
		}
		o.mu.Lock()
		if ctx.Err() != nil {
			return syscall.EINTR
		}
	}
}

// KillSetID is Change.KillSetID, for who writes.
func (f *OutputFile) KillSetID() {
	f.o.mu.Lock()
	defer f.o.mu.Unlock()
	f.n.killSetID()
}

// Truncate sets the file's size.
func (f *OutputFile) Truncate(size uint64) error {
	_, err := f.o.SetAttr(f.n.inode, Change{Size: &size})
	return err
}

// Modes of Allocate: Linux's fallocate(2).
const (
	allocKeepSize  = 1
	allocPunchHole = 2
	allocZeroRange = 16
)

// Allocate is fallocate(2): mode 0, keep size, punch hole, zero range. A zeroed
// range becomes a hole. Where OutputOptions.MaxSize leaves too little for the
// range it is ENOSPC; otherwise what is allocated counts from then on, and
// writes there are not refused for want of space, until a truncate or a punch
// takes it back or the volume is closed: the format has no allocation.
func (f *OutputFile) Allocate(mode uint32, off, length int64) error {
	if off < 0 || length <= 0 {
		return syscall.EINVAL
	}
	if off > maxFile-length {
		return syscall.EFBIG
	}
	f.o.mu.Lock()
	defer f.o.mu.Unlock()
	if f.o.closing {
		return syscall.EIO
	}
	if err := f.allocate(mode, off, off+length); err != nil {
		return err
	}
	f.wrote()
	return nil
}

func (f *OutputFile) allocate(mode uint32, off, end int64) error {
	punch := mode&allocPunchHole != 0
	if !punch && !f.o.affords(f.n, off, end-off) {
		return syscall.ENOSPC
	}
	switch mode {
	case 0, allocZeroRange:
		f.n.attr.Size = max(f.n.attr.Size, uint64(end))
	case allocKeepSize, allocKeepSize | allocPunchHole, allocKeepSize | allocZeroRange:
	default:
		return syscall.EOPNOTSUPP
	}
	if punch || mode&allocZeroRange != 0 {
		f.n.erase(&f.o.pool, off, end)
		f.o.proceed()
	}
	if punch {
		f.o.yield(f.n, off, end)
	} else {
		f.o.hold(f.n, off, end)
	}
	return nil
}

// Whence values of Lseek: Linux's SEEK_DATA and SEEK_HOLE.
const (
	SeekData = 3
	SeekHole = 4
)

// Lseek returns the next data or hole at or behind off, as lseek(2) says.
func (f *OutputFile) Lseek(off int64, whence uint32) (int64, error) {
	f.o.mu.Lock()
	defer f.o.mu.Unlock()
	if off < 0 || off >= f.n.size() {
		return 0, syscall.ENXIO
	}
	data, hole := f.n.data(off)
	switch {
	case whence == SeekHole:
		return hole, nil
	case whence != SeekData:
		return 0, syscall.EINVAL
	case data >= f.n.size():
		return 0, syscall.ENXIO
	}
	return data, nil
}

// Sync returns when the file, its attributes and its names are durable. An
// error means that a flush since the last Sync or Flush of f failed; what was
// not written is kept and tried again.
func (f *OutputFile) Sync(ctx context.Context) error {
	err := f.o.sync(ctx, f.n)
	if told := f.failure(); told != nil {
		return told
	}
	return err
}

// Flush is close(2), of which there may be several a file: it starts what
// makes the file durable within CloseWithin, or waits for it, with SyncClose.
func (f *OutputFile) Flush(ctx context.Context) error {
	f.o.mu.Lock()
	dirty := f.o.changed[f.n]
	if dirty {
		f.o.touch(f.n, closeDelay)
	}
	wait := f.o.opts.SyncClose && (dirty || f.n.settling) // who finds a commit under way waits for it
	f.o.mu.Unlock()
	if wait {
		return f.Sync(ctx)
	}
	return f.failure()
}

// failure returns the flush that failed and f was not told of.
func (f *OutputFile) failure() error {
	f.o.mu.Lock()
	defer f.o.mu.Unlock()
	if f.seen == f.n.failures {
		return nil
	}
	f.seen = f.n.failures
	return ioError(f.n.failure)
}

// sync has a file or directory committed, and waits.
func (o *Output) sync(ctx context.Context, n *node) error {
	o.mu.Lock()
	if o.dead != nil {
		defer o.mu.Unlock()
		return ioError(o.dead)
	}
	if o.opts.AtEnd && !o.closing {
		o.mu.Unlock()
		return nil // durable is what Close makes so
	}
	w := &waiter{n, make(chan error, 1)}
	o.waiting = append(o.waiting, w)
	o.kick()
	o.mu.Unlock()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return syscall.EINTR
	case <-o.stopped:
		return syscall.EIO
	}
}
