package fs

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"cloister/fs/format"
)

// frozen is what a flush works on: what was dirty at one moment. Its pages do
// not change: a write meanwhile replaces them.
type frozen struct {
	files   []*frozenFile
	changes []change
	names   []nameChange

	changed map[*node]bool     // as they were, to be put back on failure
	before  map[nameKey]uint32 //
	added   []*node            // which the journal did not have
	freed   []*node            // which it did
}

type frozenFile struct {
	n      *node
	pages  []frozenPage
	sealed extents // where the pages' bytes went
}

type frozenPage struct {
	index int64
	*page
}

// run flushes: what is waited for, what is due, and what memory is short of.
func (o *Output) run(ctx context.Context) {
	defer close(o.stopped)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if wait, ok := o.untilDue(); ok {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-o.wake:
		case <-timer.C:
		}
		o.flush(ctx)
	}
}

func (o *Output) untilDue() (wait time.Duration, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.due.IsZero() || o.opts.noBackground {
		return 0, false
	}
	return max(0, time.Until(o.due)), true
}

// flush commits what is waited for or due, and stages what memory is short of.
func (o *Output) flush(ctx context.Context) {
	o.mu.Lock()
	waiting, hungry := o.waiting, o.hungry
	now := time.Now()
	due := !o.due.IsZero() && !now.Before(o.due) && !o.opts.noBackground
	o.waiting, o.hungry = nil, false
	var until time.Time
	if due {
		// What is due soon shares the requests of what is due now.
		until = now.Add(closeDelay)
		o.due = time.Time{}
	}
	o.mu.Unlock()
	if len(waiting) > 0 || due {
		err := o.commit(ctx, waiting, until)
		for _, w := range waiting {
			w.done <- err
		}
		o.retryLater(err)
	}
	if hungry {
		o.stage(ctx)
	}
}

// retryLater sees to another commit after one that failed: after 1 s, then
// twice as long each time, up to half a minute.
func (o *Output) retryLater(err error) {
	if err == nil {
		o.backoff = 0
		return
	}
	o.backoff = min(max(time.Second, 2*o.backoff), 30*time.Second)
	o.opts.Log.Error("flushing the output volume failed", "error", err, "retry", o.backoff)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dead == nil {
		o.due = time.Now().Add(o.backoff)
	}
}

// commit makes durable what waiting asks for, and what is due before until.
func (o *Output) commit(ctx context.Context, waiting []*waiter, until time.Time) error {
	err := o.putPending(ctx)
	var f *frozen
	if err == nil {
		f = o.freeze(waiting, until)
		if err = o.seal(ctx, f.files); err != nil {
			o.thaw(f)
		} else if o.opts.AtEnd {
			o.settle() // the manifest will say it, and no record
		} else if err = o.journal(f); err == nil {
			err = o.putPending(ctx)
		}
	}
	if err != nil {
		o.fail(err, waiting, f)
	}
	return err
}

// fail tells everybody who has one of the files open, and Failed.
func (o *Output) fail(err error, waiting []*waiter, f *frozen) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed++; o.failed == 1 {
		o.failure = err
	}
	nodes := map[*node]bool{}
	for _, w := range waiting {
		if w.node != nil {
			nodes[w.node] = true
		}
	}
	if f != nil {
		for _, file := range f.files {
			nodes[file.n] = true
		}
		for n := range f.changed {
			nodes[n] = true
		}
	}
	for n := range nodes {
		n.failures++
		n.failure = err
	}
}

// freeze takes what a commit is to cover: the files waited for and those due,
// files with a new name, and the names and attributes of everything that has
// no dirty bytes besides.
func (o *Output) freeze(waiting []*waiter, until time.Time) *frozen {
	o.mu.Lock()
	defer o.mu.Unlock()
	f := &frozen{changed: map[*node]bool{}, before: o.names}
	scope := map[*node]*frozenFile{}
	all := false
	for _, w := range waiting {
		if w.node == nil {
			all = true
		} else {
			scope[w.node] = nil
		}
	}
	later := map[*node]bool{}
	for n := range o.changed {
		_, asked := scope[n]
		if n.attr.Nlink > 0 && len(n.pages) > 0 {
			if !asked && !all && !n.named && !n.due.Before(until) {
				later[n] = true
				continue
			}
			scope[n] = f.freezeFile(n)
		}
		if len(n.pages) > 0 && n.attr.Nlink == 0 {
			later[n] = true // nothing to promise, but stage must find it
		}
		f.changed[n] = true
		n.due, n.settling = time.Time{}, true
		o.settling = append(o.settling, n)
	}
	for n := range f.changed {
		f.freezeNode(n, scope[n])
	}
	for k := range o.names {
		f.names = append(f.names, nameChange{k, o.names[k], o.tree.target(k)})
	}
	o.changed, o.names = later, map[nameKey]uint32{}
	o.due = time.Time{}
	for n := range later {
		if !n.due.IsZero() {
			o.dueAt(n.due)
		}
	}
	return f
}

// target returns the inode that a name leads to now, or 0.
func (t *tree) target(k nameKey) uint32 {
	if d := t.nodes[k.dir]; d != nil && d.isDir() {
		return d.dir.get(k.name)
	}
	return 0
}

func (f *frozen) freezeFile(n *node) *frozenFile {
	file := &frozenFile{n: n}
	for _, index := range n.dirtyIndexes() {
		pg := n.pages[index]
		pg.frozen = true
		file.pages = append(file.pages, frozenPage{index, pg})
	}
	f.files = append(f.files, file)
	return file
}

// freezeNode takes what the record is to say of an inode.
func (f *frozen) freezeNode(n *node, file *frozenFile) {
	switch {
	case n.attr.Nlink > 0:
		f.changes = append(f.changes, change{inode: n.inode, node: n.format(nil, nil), extents: n.extents, file: file, added: !n.journaled})
		if !n.journaled {
			f.added = append(f.added, n)
		}
		n.journaled, n.named = true, false
	case n.journaled:
		f.changes = append(f.changes, change{inode: n.inode, free: true})
		f.freed = append(f.freed, n)
		n.journaled = false
	}
}

// thaw puts back what could not be sealed.
func (o *Output) thaw(f *frozen) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.thawPages(f.files)
	for n := range f.changed {
		o.touch(n, closeDelay)
	}
	for k, before := range f.before {
		o.names[k] = before
	}
	for _, n := range f.added {
		n.journaled, n.named = false, true
	}
	for _, n := range f.freed {
		n.journaled = true
	}
}

// thawPages gives frozen pages that were not sealed back to their files, or,
// where a write has replaced them, to the pool.
func (o *Output) thawPages(files []*frozenFile) {
	for _, file := range files {
		for _, pg := range file.pages {
			switch {
			case pg.data == nil: // sealed
			case file.n.pages[pg.index] == pg.page:
				pg.frozen = false
			default:
				o.pool.put(pg.page)
			}
		}
	}
	o.proceed()
}

// stage seals dirty bytes without promising anything: the journal does not name
// the objects yet.
func (o *Output) stage(ctx context.Context) {
	f := o.freezeForStage()
	err := o.seal(ctx, f.files)
	if err == nil {
		return
	}
	o.opts.Log.Error("staging dirty data of the output volume failed", "error", err)
	o.mu.Lock()
	o.starved++
	o.thawPages(f.files)
	o.mu.Unlock()
	o.fail(err, nil, f)
}

// freezeForStage takes files that are being written as streams, which are
// hardly written again; and where memory is short, the largest until half of
// what is dirty would be gone.
func (o *Output) freezeForStage() *frozen {
	o.mu.Lock()
	defer o.mu.Unlock()
	f := &frozen{}
	var dirty []*node
	for n := range o.changed {
		if len(n.pages) > 0 {
			dirty = append(dirty, n)
		}
	}
	slices.SortFunc(dirty, func(x, y *node) int { return len(y.pages) - len(x.pages) })
	short := o.pool.inUse > o.limit/2
	taken := 0
	for _, n := range dirty {
		if n.run >= o.streamed || short && taken < o.pool.inUse/2 {
			taken += len(n.pages)
			n.run = 0
			f.freezeFile(n)
		}
	}
	return f
}

// sealer is the memory that one object is sealed in.
type sealer struct{ sealed []byte }

// job is one data object to be.
type job struct {
	obj       *dataObject
	length    int
	parts     []jobPart
	sealedLen int64 // that it is padded to; 0: Padmé's
}

type jobPart struct {
	file *frozenFile
	frozenPage
	to extents // where the page's spans go
}

// seal packs the pages of files into data objects and puts those. Of an object
// that is put, the files are told at once, which frees memory.
func (o *Output) seal(ctx context.Context, files []*frozenFile) error {
	if o.opts.AtEnd {
		return o.sealAtEnd(ctx, files)
	}
	group, ctx := errgroup.WithContext(ctx)
	j := o.newJob()
	start := func() error {
		if j.length == 0 {
			return nil
		}
		full := j
		j = o.newJob()
		select {
		case s := <-o.sealers:
			o.put = append(o.put, full.obj.ID)
			group.Go(func() error {
				defer func() { o.sealers <- s }()
				return o.sealJob(ctx, full, s)
			})
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	capacity := o.objectPlain()
	for _, file := range files {
		for _, pg := range file.pages {
			if j.length+pageSize > capacity {
				if err := start(); err != nil {
					return firstError(group.Wait(), err)
				}
			}
			j.add(file, pg)
		}
	}
	err := start()
	return firstError(group.Wait(), err)
}

func firstError(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// newJob names an object. A name, and so the identity that is sealed, is used
// for one sealing only: what fails is sealed anew under another.
func (o *Output) newJob() *job {
	id := format.NewObjectID()
	return &job{obj: &dataObject{Object: format.Object{ID: id, Key: o.slot}, name: format.ObjectName(id)}}
}

func (j *job) add(file *frozenFile, pg frozenPage) {
	part := jobPart{file: file, frozenPage: pg}
	for _, s := range pg.spans {
		part.to = append(part.to, extent{pg.index*pageSize + s.lo, uint32(s.hi - s.lo), uint32(j.length), j.obj})
		j.length += int(s.hi - s.lo)
	}
	for _, e := range part.to {
		file.sealed = file.sealed.join(e)
	}
	j.parts = append(j.parts, part)
}

// reader returns a function that gives the bytes of the parts in order.
func (j *job) reader() func(p []byte) {
	part, span, read := 0, 0, int64(0)
	return func(p []byte) {
		for len(p) > 0 {
			if part == len(j.parts) {
				clear(p) // padding
				return
			}
			from := j.parts[part]
			s := from.spans[span]
			n := copy(p, from.data[s.lo+read:s.hi])
			if p, read = p[n:], read+int64(n); read < s.hi-s.lo {
				continue
			}
			if span, read = span+1, 0; span == len(from.spans) {
				part, span = part+1, 0
			}
		}
	}
}

func (o *Output) sealJob(ctx context.Context, j *job, s *sealer) error {
	id := format.Identity{Suite: format.Suite16K, Kind: format.KindData, Slot: o.slot, Volume: o.preamble.Volume, Object: j.obj.ID}
	var header format.Header
	length, put := int64(j.length), o.store.Put
	if j.sealedLen > 0 {
		length, _ = format.Suite16K.PlainLen(j.sealedLen)
		put = o.putAgain
	}
	s.sealed, header = format.SealDataFrom(s.sealed[:0], o.sealKey, id, length, j.sealedLen == 0, j.reader())
	j.obj.Header, j.obj.SealedLen = header, int64(len(s.sealed))
	if err := put(ctx, j.obj.name, s.sealed); err != nil {
		return err
	}
	o.install(j)
	return nil
}

// install points files at an object that is in the store, wherever they still
// have the pages that were sealed: what was overwritten or cut off since is not
// brought back.
func (o *Output) install(j *job) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for parts := j.parts; len(parts) > 0; {
		n := parts[0].file.n
		var add extents
		for ; len(parts) > 0 && parts[0].file.n == n; parts = parts[1:] {
			part := parts[0]
			if n.pages[part.index] == part.page {
				delete(n.pages, part.index)
				for _, e := range part.to {
					add = add.join(e)
				}
			}
			o.pool.put(part.page)
		}
		n.extents = n.extents.overlay(add)
	}
	o.proceed()
}

// localObject is how long sealed objects of a local store are: a directory asks
// nothing for one more file, and with objects of 16 MiB a daemon that writes
// 1 GiB to tmpfs was seen to need about 200 MB, with these about 90.
const localObject = 4 << 20

// objectPlain returns how many bytes go into a data object: so many that the
// sealed copies in flight take their share of the memory, and at most the
// format's 32 MiB.
func (o *Output) objectPlain() int {
	sealed := min(format.WriteObject, o.opts.Memory/16)
	if isLocal(o.store) {
		sealed = min(sealed, localObject)
	}
	plain, ok := format.Suite16K.PlainLen(sealed)
	for ; !ok; sealed-- {
		plain, ok = format.Suite16K.PlainLen(sealed)
	}
	return int(plain)
}

// sealersAtOnce is how many objects are sealed and put at once: enough to hide a
// blob store's latency; 3/16 of the memory.
const sealersAtOnce = 3
