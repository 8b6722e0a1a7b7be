package prep

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"cloister/fs/format"
	"cloister/prep/tree"
)

// A run that is killed, or whose store fails, leaves pending records (FORMAT.md
// §7) beside the objects it has put. The next run goes on with those objects.

// maxPendingFiles bounds a pending record, to some 12 MiB. An object of more
// files than that, of 300 bytes and less each, is sealed again after a kill.
const maxPendingFiles = 100_000

// pendingWriter makes the pending records of a run.
type pendingWriter struct {
	dek      *format.DEK
	preamble format.Preamble
	key      *format.ObjectKey
	slot     uint32
	source   string
	started  time.Time
}

// seal returns the record of an object that is about to be put, or nil where
// there is to be none.
func (p *pendingWriter) seal(sequence uint64, o *plannedObject, object format.Object) ([]byte, error) {
	if len(o.pieces) > maxPendingFiles {
		return nil, nil
	}
	t := &pendingTree{builder: new(format.Builder), dirs: map[string]uint32{}}
	t.builder.AddKey(format.Key{Key: p.key, Origin: p.preamble.Volume, Slot: p.slot, Suite: suite})
	object.Key = 0
	t.builder.AddObject(object)
	t.dirs["."] = t.add(format.Attr{Mode: format.ModeDir | 0o700})
	for i, piece := range o.pieces {
		if i == 0 || piece.path != o.pieces[i-1].path {
			t.file(p.relative(piece.path), piece.entry.Attr)
		}
		t.builder.AddExtents(piece.extent(0))
	}
	text, err := json.Marshal(provenance{writerName, p.started.UTC()})
	if err != nil {
		return nil, err
	}
	t.builder.SetProvenance(text)
	plain, err := t.builder.Finish()
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	preamble := p.preamble
	preamble.Sequence = sequence
	return format.SealPending(p.dek, preamble, plain), nil
}

// relative returns the path below the source of one that the walk has made.
func (p *pendingWriter) relative(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, p.source), string(filepath.Separator))
}

// pendingTree is the tree of a record: directories have no more than names.
type pendingTree struct {
	builder *format.Builder
	inodes  uint32
	dirs    map[string]uint32 // by path below the source
}

func (t *pendingTree) add(a format.Attr) uint32 {
	t.inodes++
	t.builder.AddNode(t.inodes, format.Node{Attr: a})
	return t.inodes
}

func (t *pendingTree) dir(path string) uint32 {
	if inode, ok := t.dirs[path]; ok {
		return inode
	}
	parent, name := t.dir(filepath.Dir(path)), filepath.Base(path)
	inode := t.add(format.Attr{Mode: format.ModeDir | 0o700})
	t.builder.Link(parent, []byte(name), inode)
	t.dirs[path] = inode
	return inode
}

func (t *pendingTree) file(path string, a format.Attr) {
	parent := t.dir(filepath.Dir(path))
	t.builder.Link(parent, []byte(filepath.Base(path)), t.add(a))
}

// pending is a record of an earlier run whose object is there.
type pending struct {
	*format.Manifest
	name  string // of the record
	index uint32 // of its object in the new table, once it is used
	used  bool
	// absent: its writer was killed between the record and the object, or is
	// about to put it. A record without an object is nobody's once the epoch is
	// there.
	absent bool
}

// resume finds what earlier runs have put of files that have not changed.
type resume struct {
	builder *format.Builder
	slot    uint32
	records []*pending
	files   map[string][]partOf // by path below the source
}

// partOf is a file, or a part of one, in a record.
type partOf struct {
	*pending
	inode uint32
}

// openPending returns the records of an epoch, those that open under the key. What does not open is of no use, and no harm: it
// is passed over.
func openPending(ctx context.Context, s Store, root *format.RootSecret, fits func(format.Preamble) bool) ([]*pending, error) {
	var names []listed
	for e, err := range s.List(ctx, format.PendingPrefix) {
		if err != nil {
			return nil, err
		}
		if e.Size <= format.MaxSealedRecord {
			names = append(names, e)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	opened := make([]*pending, len(names))
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(transfers)
	for i, e := range names {
		group.Go(func() (err error) {
			opened[i], err = openRecord(running, s, root, e, fits)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return havingObjects(ctx, s, slices.DeleteFunc(opened, func(p *pending) bool { return p == nil }))
}

// openRecord returns nil for a record that is gone, does not fit or does not
// open.
func openRecord(ctx context.Context, s Store, root *format.RootSecret, e listed, fits func(format.Preamble) bool) (*pending, error) {
	sealed := make([]byte, e.Size)
	err := s.Get(ctx, e.Name, 0, sealed)
	if err != nil && isDamage(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p, _, err := format.ParsePreamble(sealed)
	if err != nil || !fits(p) || e.Name != format.PendingName(p.Run, p.Sequence) {
		return nil, nil
	}
	dek := root.DeriveDEK(p.Volume, p.KeyVersion)
	defer dek.Destroy()
	m, err := format.OpenPending(sealed, dek)
	if err != nil || m.Objects() != 1 || m.Keys() != 1 || m.Object(0).Place != 0 {
		return nil, nil
	}
	return &pending{Manifest: m, name: e.Name}, nil
}

// havingObjects marks the records whose object was not put whole: a store puts
// whole or not at all.
func havingObjects(ctx context.Context, s Store, records []*pending) ([]*pending, error) {
	there := map[string]int64{}
	for _, p := range records {
		there[p.ObjectName(p.Object(0))] = -1
	}
	for e, err := range s.List(ctx, format.DataPrefix) {
		if err != nil {
			return nil, err
		}
		if _, asked := there[e.Name]; asked {
			there[e.Name] = e.Size
		}
	}
	for _, p := range records {
		o := p.Object(0)
		p.absent = there[p.ObjectName(o)] != o.SealedLen
	}
	return records, nil
}

func newResume(b *format.Builder, slot uint32, records []*pending) *resume {
	r := &resume{builder: b, slot: slot, records: records, files: map[string][]partOf{}}
	for _, p := range records {
		if p.absent {
			continue
		}
		names := newPaths(p.Manifest)
		for inode := uint32(1); inode <= p.Inodes(); inode++ {
			if a, _ := p.Attr(inode); a.Type() == format.ModeFile {
				path := names.of(inode)
				r.files[path] = append(r.files[path], partOf{p, inode})
			}
		}
	}
	return r
}

// extents returns the extents that are there already of a file, ascending.
func (r *resume) extents(path string, e *tree.Entry) (done []format.Extent) {
	for _, part := range r.files[filepath.ToSlash(path)] {
		a, _ := part.Attr(part.inode)
		before := settledBefore(readProvenance(part.Manifest).Started)
		same := a.Size == e.Attr.Size && a.Mtime == e.Attr.Mtime && a.Ctime == e.Attr.Ctime && earlier(a.Mtime, before)
		if !same {
			continue
		}
		for x := range part.Extents(part.inode, 0) {
			if overlaps(done, x) {
				continue // two runs sealed it; one is enough
			}
			x.Object = r.object(part.pending)
			done = append(done, x)
		}
	}
	sortExtents(done)
	return done
}

func overlaps(extents []format.Extent, x format.Extent) bool {
	return slices.ContainsFunc(extents, func(e format.Extent) bool { return e.FileOff < x.End() && x.FileOff < e.End() })
}

// object takes a record's object into the new table.
func (r *resume) object(p *pending) uint32 {
	if !p.used {
		o := p.Object(0)
		o.Key = r.slot
		p.index, p.used = r.builder.AddObject(o), true
	}
	return p.index
}

// without returns what of data is not in done, which is ascending.
func without(data []dataRange, done []format.Extent) (rest []dataRange) {
	for _, d := range data {
		end := d.off + d.length
		for _, x := range done {
			from, to := int64(x.FileOff), int64(x.End())
			if to <= d.off || from >= end {
				continue
			}
			if from > d.off {
				rest = append(rest, dataRange{d.off, from - d.off})
			}
			d.off = min(to, end)
		}
		if d.off < end {
			rest = append(rest, dataRange{d.off, end - d.off})
		}
	}
	return rest
}

func sortExtents(extents []format.Extent) {
	slices.SortFunc(extents, func(a, b format.Extent) int {
		if a.FileOff < b.FileOff {
			return -1
		}
		return 1
	})
}

// forget removes the records that have served: an epoch has their objects. One
// that stays is of an epoch that is there, and is not looked at again.
func (w *work) forget(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetTime)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(transfers)
	names := w.sealing.recorded
	for _, p := range w.resumed.records {
		if p.used || p.absent { // else prune must know that its object is for nobody
			names = append(names, p.name)
		}
	}
	for _, name := range names {
		group.Go(func() error { return w.store.Delete(ctx, name) })
	}
	group.Wait()
}

// forgetTime is how long records are being removed: the work is done, and the
// user waits.
const forgetTime = 30 * time.Second
