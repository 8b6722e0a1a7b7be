package prep

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cloister/fs/format"
	"cloister/internal/fault"
	"cloister/prep/tree"
)

// walk describes the folder to the builder, depth first in the order of names,
// and hands each object that new contents fill to emit.
func (w *work) walk(ctx context.Context, emit func(*plannedObject) error) error {
	info, err := os.Stat(w.options.Source)
	if err != nil {
		return tree.Explain("reading", w.options.Source, err)
	}
	if !info.IsDir() {
		return fault.Errorf(fault.Usage, "name a folder", "%s is not a folder", w.options.Source)
	}
	// The folder itself may be named by a symlink; what is in it is not followed.
	source, err := filepath.EvalSymlinks(w.options.Source)
	if err != nil {
		return tree.Explain("reading", w.options.Source, err)
	}
	w.sealing.pending.source = source
	k := walker{work: w, ctx: ctx, linked: map[tree.Inode]uint32{}, reused: newReuse(w)}
	k.plan = planner{
		newObject: func() uint32 { return w.builder.AddObject(format.Object{}) },
		emit:      emit,
	}
	root, err := tree.Stat(source)
	if err != nil {
		return err
	}
	prev := uint32(0)
	if w.base.manifest != nil {
		prev = format.RootInode
	}
	if err := k.directory(source, root, prev, 1); err != nil {
		return err
	}
	return k.plan.flush()
}

type walker struct {
	*work
	ctx    context.Context
	plan   planner
	reused *reuse
	inodes uint32                // given out so far
	linked map[tree.Inode]uint32 // files with more than one name, seen before
}

func (k *walker) add(e *tree.Entry, extents []format.Extent) uint32 {
	k.inodes++
	k.builder.AddNode(k.inodes, format.Node{Attr: e.Attr, Target: e.Target, Xattrs: e.Xattrs, Extents: extents})
	return k.inodes
}

// directory adds a directory and what is in it. prev is its inode in the
// previous epoch, or 0.
func (k *walker) directory(path string, e *tree.Entry, prev uint32, depth int) error {
	if depth > format.MaxDepth || k.inodes >= format.MaxInodes-1 {
		return fault.Errorf(fault.Usage, "encrypt its parts into volumes of their own", "%s: a volume holds at most %d levels and %d files", path, format.MaxDepth, format.MaxInodes)
	}
	inode := k.add(e, nil)
	k.result.Directories++
	names, err := tree.Names(path)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := k.ctx.Err(); err != nil {
			return err
		}
		child, err := k.child(tree.Join(path, name), k.reused.lookup(prev, name), depth)
		if err != nil {
			return err
		}
		k.builder.Link(inode, []byte(name), child)
	}
	return nil
}

func (k *walker) child(path string, prev uint32, depth int) (inode uint32, err error) {
	e, err := tree.Stat(path)
	if isMissing(err) {
		return 0, tree.Changed(path, "it was removed")
	}
	if err != nil {
		return 0, err
	}
	if inode, ok := k.linked[e.Inode]; ok && e.Shared {
		return inode, nil
	}
	switch e.Attr.Type() {
	case format.ModeDir:
		inode = k.inodes + 1
		return inode, k.directory(path, e, prev, depth+1)
	case format.ModeFile:
		inode, err = k.file(path, e, prev)
	default:
		k.result.Others++
		inode = k.add(e, nil)
	}
	if e.Shared {
		k.linked[e.Inode] = inode
	}
	return inode, err
}

func (k *walker) file(path string, e *tree.Entry, prev uint32) (inode uint32, err error) {
	if k.options.From != nil {
		size, err := k.options.From.plainSize(path, int64(e.Attr.Size))
		if err != nil {
			return 0, err
		}
		e.Attr.Size, e.Sparse = uint64(size), false
	}
	k.result.Files++
	k.result.Bytes += e.Attr.Size
	extents, ok, err := k.unchanged(path, e, prev)
	if err != nil {
		return 0, err
	}
	if ok {
		k.result.ReusedFiles++
		k.options.Progress.Done(int64(e.Attr.Size))
		return k.add(e, extents), nil
	}
	data, err := dataRanges(path, e)
	if err != nil {
		return 0, err
	}
	done := k.resumed.extents(k.sealing.pending.relative(path), e)
	data = without(data, done)
	var planned int64
	for _, r := range data {
		planned += r.length
	}
	k.options.Progress.Done(int64(e.Attr.Size) - planned) // holes take no time
	extents, err = k.plan.file(path, e, data)
	if err != nil {
		return 0, err
	}
	extents = append(extents, done...)
	sortExtents(extents)
	return k.add(e, extents), nil
}

// dataRanges returns where a file is not a hole. What the walk sees here is
// still so when the contents are read, or the Version has changed.
func dataRanges(path string, e *tree.Entry) ([]dataRange, error) {
	size := int64(e.Attr.Size)
	if size == 0 {
		return nil, nil
	}
	if !e.Sparse {
		return []dataRange{{0, size}}, nil
	}
	f, err := tree.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var data []dataRange
	err = tree.Data(f, size, func(off, length int64) error {
		data = append(data, dataRange{off, length})
		return nil
	})
	if err != nil {
		return nil, tree.Explain("looking for holes in", path, err)
	}
	return data, tree.Check(f, path, e.Version)
}

// reuse finds files of the previous epoch that have not changed.
type reuse struct {
	manifest *format.Manifest
	builder  *format.Builder
	objects  map[uint32]uint32 // index in the previous object table → in the new
	// before is the latest modification time of a file that counts as
	// unchanged: one that was changed while it was being sealed, within one
	// tick of the file system's clock, would look the same.
	before format.Time
}

// clockTick is the coarsest clock that file systems keep times by (FAT's).
const clockTick = 2 * time.Second

// settledBefore returns the time before which a file must have been changed
// last for a walk that began at started to have seen all of the change.
func settledBefore(started time.Time) format.Time {
	t := started.Add(-clockTick)
	return format.Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}

func newReuse(w *work) *reuse {
	r := &reuse{manifest: w.base.manifest, builder: w.builder, objects: map[uint32]uint32{}}
	if r.manifest == nil {
		return r
	}
	if p := readProvenance(r.manifest); p.Writer == writerName {
		r.before = settledBefore(p.Started)
	} else {
		r.manifest = nil // of another kind of writer: nothing says how its times relate to the source's
	}
	return r
}

func (r *reuse) lookup(dir uint32, name string) uint32 {
	if r.manifest == nil || dir == 0 {
		return 0
	}
	if a, _ := r.manifest.Attr(dir); a.Type() != format.ModeDir {
		return 0
	}
	inode, ok := r.manifest.Lookup(dir, []byte(name))
	if !ok {
		return 0 // the inode is that of the name after it
	}
	return inode
}

// unchanged returns the extents of a file that is what it was in the previous
// epoch: by size and modification time, or, with Checksum, by its bytes.
func (k *walker) unchanged(path string, e *tree.Entry, prev uint32) ([]format.Extent, bool, error) {
	if !k.reused.candidate(prev, e) {
		return nil, false, nil
	}
	same := k.reused.sameTime(prev, e)
	if k.options.Checksum {
		var err error
		if same, err = k.sameBytes(path, e, prev); err != nil {
			return nil, false, err
		}
	}
	if !same {
		return nil, false, nil
	}
	return k.reused.extents(prev), true, nil
}

// candidate reports whether prev is a file of the same size whose objects may
// be used again: not one in another volume, which may go away.
func (r *reuse) candidate(prev uint32, e *tree.Entry) bool {
	if r.manifest == nil || prev == 0 {
		return false
	}
	a, ok := r.manifest.Attr(prev)
	if !ok || a.Type() != format.ModeFile || a.Size != e.Attr.Size {
		return false
	}
	for x := range r.manifest.Extents(prev, 0) {
		if r.manifest.Object(x.Object).Place != 0 {
			return false
		}
	}
	return true
}

func (r *reuse) sameTime(prev uint32, e *tree.Entry) bool {
	a, _ := r.manifest.Attr(prev)
	return a.Mtime == e.Attr.Mtime && earlier(a.Mtime, r.before)
}

// extents returns the extents of a file of the previous epoch, in the new table.
func (r *reuse) extents(prev uint32) (extents []format.Extent) {
	for x := range r.manifest.Extents(prev, 0) {
		x.Object = r.object(x.Object)
		extents = append(extents, x)
	}
	return extents
}

func earlier(a, b format.Time) bool {
	return a.Sec < b.Sec || a.Sec == b.Sec && a.Nsec < b.Nsec
}

// object takes an object of the previous epoch into the new table. Keys have
// kept their indexes.
func (r *reuse) object(old uint32) uint32 {
	i, ok := r.objects[old]
	if !ok {
		i = r.builder.AddObject(r.manifest.Object(old))
		r.objects[old] = i
	}
	return i
}

// Measure returns how many bytes the files of a folder have, for a progress
// bar: an estimate, that passes over what it cannot read.
func Measure(source string) int64 {
	var total int64
	filepath.WalkDir(source, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}

// CheckApart refuses a volume directory inside the folder that is sealed into
// it, which would seal its own objects, and a folder inside the volume.
func CheckApart(source, volume string) error {
	source, err := resolve(source)
	if err != nil {
		return err
	}
	if volume, err = resolve(volume); err != nil {
		return err
	}
	if isWithin(volume, source) || isWithin(source, volume) {
		return fault.Errorf(fault.Usage, "name a volume directory outside the folder",
			"the volume %s and the folder %s lie one in the other", volume, source)
	}
	return nil
}

// resolve returns the absolute path without symlinks of what may not exist yet.
func resolve(name string) (string, error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return "", fmt.Errorf("finding %s: %w", name, err)
	}
	rest := ""
	for dir := path; ; dir = filepath.Dir(dir) {
		real, err := filepath.EvalSymlinks(dir)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		if dir == filepath.Dir(dir) {
			return path, nil
		}
		rest = filepath.Join(filepath.Base(dir), rest)
	}
}

// isWithin reports whether a is b or below it: by the directories themselves,
// as one may be mounted under two names or be named in another case.
func isWithin(a, b string) bool {
	outer, err := os.Stat(b)
	if err != nil {
		return false
	}
	for ; ; a = filepath.Dir(a) {
		if info, err := os.Stat(a); err == nil && os.SameFile(info, outer) {
			return true
		}
		if a == filepath.Dir(a) {
			return false
		}
	}
}
