package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// change is what a record is to say of an inode, as it was when frozen.
type change struct {
	inode   uint32
	free    bool
	added   bool // the journal did not have it
	node    format.Node
	extents extents
	file    *frozenFile // whose pages go over the extents; nil: none
}

// nameChange is a name that was changed: the inode the journal has there, and
// the one that is there now; 0 for none.
type nameChange struct {
	nameKey
	before, now uint32
}

// pendingRecord is a sealed record. It is put again, the same bytes, until it
// is known to be in the store or not to get there.
type pendingRecord struct {
	sealed []byte
	head   Head
}

const (
	// splitRecord is the length from which what can be said ahead is put in
	// records of its own; a record may have 64 MiB.
	splitRecord = 16 << 20
	// staleAfter is how long after the last record a writer asks, once it has
	// put another, whether somebody completed the epoch meanwhile: a writer that
	// was stopped for so long may have been taken over and the fence be gone.
	staleAfter = 5 * time.Second
)

// journal seals the record, or records, of what was frozen.
//
// Names go first that are gone, then inodes that are freed, as their numbers
// may be in use again; then inodes, then names. Where that is too long for one
// record, inodes that are new go ahead: without a name they are nothing yet.
func (o *Output) journal(f *frozen) error {
	if len(f.changes)+len(f.names) == 0 {
		return nil
	}
	freed := map[uint32]bool{}
	length := 0
	for _, c := range f.changes {
		if c.free {
			freed[c.inode] = true
		}
		length += 100 + 20*len(c.extents) + len(c.node.Target)
	}
	ahead := map[uint32]bool{}
	if length > splitRecord {
		if err := o.journalAhead(f, freed, ahead); err != nil {
			return err
		}
	}
	r := new(format.Record)
	for _, name := range f.names {
		if name.before != 0 && name.now == 0 {
			r.Unlink(name.dir, []byte(name.name))
		}
	}
	for inode := range freed {
		r.Free(inode)
	}
	for _, c := range f.changes {
		if !c.free && !ahead[c.inode] {
			o.journalInode(r, c)
		}
	}
	for _, name := range f.names {
		// Also where it leads to the same number as before: that may be
		// another inode by now.
		if name.now != 0 {
			r.Link(name.dir, []byte(name.name), name.now)
		}
	}
	return o.sealRecord(r)
}

func (o *Output) journalAhead(f *frozen, freed, ahead map[uint32]bool) error {
	r := new(format.Record)
	for _, c := range f.changes {
		if !c.added || freed[c.inode] {
			continue
		}
		ahead[c.inode] = true
		o.journalInode(r, c)
		if r.Len() > splitRecord {
			if err := o.sealRecord(r); err != nil {
				return err
			}
			r = new(format.Record)
		}
	}
	return o.sealRecord(r)
}

// journalInode adds an inode to a record, and before it the objects that the
// journal does not have yet.
func (o *Output) journalInode(r *format.Record, c change) {
	list := c.extents
	if c.file != nil {
		list = list.overlay(c.file.sealed)
	}
	for _, e := range list {
		if e.obj.journaled {
			continue
		}
		e.obj.journaled, e.obj.index = true, uint32(len(o.tree.objects))
		o.tree.objects = append(o.tree.objects, e.obj)
		r.Object(e.obj.Object)
	}
	n := c.node
	for _, e := range list {
		n.Extents = append(n.Extents, format.Extent{FileOff: uint64(e.off), Object: e.obj.index, ObjectOff: e.objOff, Length: e.length})
	}
	r.Inode(c.inode, n)
}

// sealRecord makes a record the next one of the chain.
func (o *Output) sealRecord(r *format.Record) error {
	if r.Empty() {
		return nil
	}
	if padded := format.Suite16K.PaddedPlainLen(int64(r.Len() + 8)); padded > format.MaxSealedRecord*9/10 {
		err := fault.Errorf(fault.Internal, "close the volume and open it again: that folds the journal",
			"a journal record of %d bytes would be longer than the format allows", r.Len())
		o.mu.Lock()
		o.dead = err
		o.mu.Unlock()
		return err
	}
	o.preamble.Sequence++
	sealed, digest := format.SealRecord(o.key, o.preamble, r)
	o.preamble.Previous = digest
	o.pending = append(o.pending, &pendingRecord{sealed, Head{o.preamble.Epoch, o.preamble.Sequence, digest}})
	return nil
}

// putPending puts the records that are sealed and not known to be in the
// store, in their order.
func (o *Output) putPending(ctx context.Context) error {
	o.mu.Lock()
	dead := o.dead
	o.mu.Unlock()
	if dead != nil {
		return dead
	}
	for len(o.pending) > 0 {
		p := o.pending[0]
		err := putOnce(ctx, o.store, format.RecordName(p.head.Epoch, p.head.Sequence), p.sealed)
		if err == nil && time.Since(o.settled) > staleAfter {
			err = o.checkEpoch(ctx)
		}
		if err != nil {
			return o.putFailed(err)
		}
		o.pending, o.settled = o.pending[1:], time.Now()
		o.mu.Lock()
		o.head = p.head
		o.mu.Unlock()
	}
	o.settle()
	return nil
}

// settle notes that what was frozen is in the store, or back among what is
// dirty.
func (o *Output) settle() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range o.settling {
		n.settling = false
	}
	o.settling = nil
}

// putFailed ends this writer for good if the error says that there is another.
func (o *Output) putFailed(err error) error {
	if !errors.Is(err, errTaken) {
		return err
	}
	err = fault.Errorf(fault.Conflict, "end the other writer, or give each its own output volume",
		"output volume %s: %w: %w", o.store, ErrFenced, err)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dead = err
	o.proceed()
	return err
}

// checkEpoch refuses to go on with an epoch that has a manifest: somebody else
// completed it.
func (o *Output) checkEpoch(ctx context.Context) error {
	name := format.ManifestName(o.preamble.Epoch)
	_, err := o.store.Size(ctx, name)
	switch {
	case err == nil:
		return taken(ctx, o.store, name)
	case fault.KindOf(err) != fault.NotFound:
		return fmt.Errorf("looking for a manifest of epoch %d: %w", o.preamble.Epoch, err)
	}
	return nil
}

// errTaken is found in errors where another writer's object is in the place of
// ours.
var errTaken = errors.New("written by another writer")

// putOnce puts an object under a name that no other may have. If an earlier
// try, whose answer was lost, has put it, that is as good.
func putOnce(ctx context.Context, store OutputStore, name string, data []byte) error {
	err := store.Put(ctx, name, data)
	if fault.KindOf(err) != fault.Conflict || err == nil {
		return err
	}
	there, err := readWhole(ctx, store, name, int64(len(data)))
	if err == nil && bytes.Equal(there, data) {
		return nil
	}
	if err != nil && fault.KindOf(err) != fault.Refused {
		return err
	}
	return taken(ctx, store, name)
}

// taken says who wrote an object.
func taken(ctx context.Context, store OutputStore, name string) error {
	size, err := store.Size(ctx, name)
	if err != nil {
		return err
	}
	begin := make([]byte, min(size, preambleLook))
	if err := store.Get(ctx, name, 0, begin); err != nil {
		return err
	}
	p, _, err := format.ParsePreamble(begin)
	if err != nil {
		return fmt.Errorf("%s is %w, and not well-formed: %w", name, errTaken, err)
	}
	return fmt.Errorf("%s is %w, run %s", name, errTaken, p.Run)
}

// preambleLook is enough for any preamble: 132 bytes and the stanzas.
const preambleLook = 132 + format.MaxStanzas

// readWhole reads an object of up to limit bytes.
func readWhole(ctx context.Context, store OutputStore, name string, limit int64) ([]byte, error) {
	size, err := store.Size(ctx, name)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fault.Errorf(fault.Refused, "the store does not hold what was written: restore the volume from a copy", "object %s of %s has %d bytes, more than the %d it may have", name, store, size, limit)
	}
	data := make([]byte, size)
	return data, store.Get(ctx, name, 0, data)
}
