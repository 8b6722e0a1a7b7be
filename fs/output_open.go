package fs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// survey is what a store lists of a volume's manifests and journal.
type survey struct {
	newest    uint64 // epoch with a manifest; 0: none
	manifests []uint64
	records   map[uint64][]uint64 // epoch to sequences, ascending
}

func (o *Output) survey(ctx context.Context) (*survey, error) {
	s := &survey{records: map[uint64][]uint64{}}
	for e, err := range o.store.List(ctx, format.ManifestPrefix) {
		if err != nil {
			return nil, err
		}
		if epoch, ok := format.ParseManifestName(e.Name); ok {
			s.manifests = append(s.manifests, epoch)
			s.newest = max(s.newest, epoch)
		}
	}
	for e, err := range o.store.List(ctx, format.JournalPrefix) {
		if err != nil {
			return nil, err
		}
		if epoch, sequence, ok := format.ParseRecordName(e.Name); ok {
			s.records[epoch] = append(s.records[epoch], sequence)
		}
	}
	for _, list := range s.records {
		slices.Sort(list)
	}
	return s, nil
}

// openTries is how often opening begins again because another writer did
// something between our looking and our doing.
const openTries = 3

func (o *Output) open(ctx context.Context, key KeyFunc) (err error) {
	for range openTries {
		if err = o.tryOpen(ctx, key); !errors.Is(err, errTaken) {
			return err
		}
		o.tree.destroy()
		o.tree, o.recovered = nil, nil
	}
	return fault.Errorf(fault.Conflict, "end the other writer, or give each its own output volume", "%w: %w", ErrFenced, err)
}

func (o *Output) tryOpen(ctx context.Context, key KeyFunc) error {
	s, err := o.survey(ctx)
	if err != nil {
		return err
	}
	if err := o.checkSurvey(s); err != nil {
		return err
	}
	if err := o.identify(ctx, s, key); err != nil {
		return err
	}
	if s.newest > 0 {
		err = o.loadManifest(ctx, s.newest)
	} else {
		root := o.opts.Root
		if root.Mode&0o7777 == 0 {
			root.Mode = 0o755
		}
		if root.Mtime == (format.Time{}) {
			root.Mtime, root.Ctime = o.now(), o.now()
		}
		o.tree = newTree(o.preamble.Volume, root)
	}
	if err != nil {
		return err
	}
	if records := s.records[s.newest+1]; len(records) > 0 {
		if err := o.recover(ctx, s.newest+1, records); err != nil {
			return fmt.Errorf("recovering the journal of epoch %d: %w", s.newest+1, err)
		}
		s.newest++
	} else if h := o.opts.Head; h != nil && (h.Epoch > s.newest+1 || h.Epoch == s.newest+1 && h.Sequence > 0) {
		return o.withheld(fmt.Sprintf("record %d of epoch %d", h.Sequence, h.Epoch))
	}
	o.sweep = o.recovered != nil || s.leftovers()
	if o.opts.recoverOnly {
		return nil
	}
	if o.opts.AtEnd {
		if err := o.holdOld(ctx); err != nil {
			return err
		}
	}
	return o.claim(ctx, s.newest+1)
}

// leftovers reports whether an earlier writer did not get to remove its
// journal. One record may be a fence.
func (s *survey) leftovers() bool {
	for epoch, records := range s.records {
		if epoch < s.newest || epoch == s.newest && len(records) > 1 {
			return true
		}
	}
	return false
}

func (o *Output) checkSurvey(s *survey) error {
	for epoch := range s.records {
		if epoch > s.newest+1 {
			return o.withheld(fmt.Sprintf("the manifest of epoch %d", epoch-1))
		}
	}
	if h := o.opts.Head; h != nil && h.Sequence == 0 && h.Epoch > s.newest {
		return o.withheld(fmt.Sprintf("the manifest of epoch %d", h.Epoch))
	}
	ref := o.opts.Reference
	switch {
	case ref != nil && ref.Epoch != s.newest:
		return fault.Errorf(fault.Refused, "give the reference of the newest epoch, or none",
			"%w: the newest manifest is of epoch %d, the reference of epoch %d", format.ErrReference, s.newest, ref.Epoch)
	case s.newest == 0 && len(s.records) == 0 && !o.opts.Create:
		return fault.Errorf(fault.NotFound, "check the volume's name; a new output volume has to be asked for", "there is no volume")
	}
	return nil
}

func (o *Output) withheld(what string) error {
	return fault.Errorf(fault.Refused, "the store may be withholding part of the volume: ask who runs it for a complete copy", "%s is missing", what)
}

// identify finds out which volume it is, and gets its key.
func (o *Output) identify(ctx context.Context, s *survey, key KeyFunc) error {
	p := format.Preamble{Volume: o.opts.Volume, KeyVersion: max(o.opts.KeyVersion, 1)}
	if name := s.first(); name != "" {
		begin := make([]byte, preambleLook)
		size, err := o.store.Size(ctx, name)
		if err == nil {
			begin = begin[:min(size, preambleLook)]
			err = o.store.Get(ctx, name, 0, begin)
		}
		if err != nil {
			return err
		}
		if p, _, err = format.ParsePreamble(begin); err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
	} else if p.Volume == (format.VolumeID{}) {
		p.Volume = format.NewVolumeID()
	}
	if want := o.opts.Volume; want != (format.VolumeID{}) && want != p.Volume {
		return fault.Errorf(fault.Refused, "check the volume's name", "the volume is %s, not %s", p.Volume, want)
	}
	if o.key == nil || o.preamble.Volume != p.Volume || o.preamble.KeyVersion != p.KeyVersion {
		dek, err := key(p)
		if err != nil {
			return fmt.Errorf("getting the key of volume %s: %w", p.Volume, err)
		}
		o.key = dek
	}
	o.preamble = format.Preamble{Suite: format.Suite16K, KeyVersion: p.KeyVersion, Volume: p.Volume, Run: format.NewRunID()}
	return o.wrap()
}

// wrap makes the stanzas for the recipients that were chosen.
func (o *Output) wrap() (err error) {
	o.preamble.Stanzas, err = format.Wrap(o.key, o.preamble.Volume, o.preamble.KeyVersion, o.opts.Recipients...)
	return err
}

// keepRecipients takes over the stanzas of what has opened, where none were
// chosen: before, they are only what a store says.
func (o *Output) keepRecipients(p format.Preamble) {
	if o.opts.Recipients == nil {
		o.preamble.Stanzas = bytes.Clone(p.Stanzas)
	}
}

// first returns the object that says which volume it is, or "".
func (s *survey) first() string {
	if s.newest > 0 {
		return format.ManifestName(s.newest)
	}
	if records := s.records[1]; len(records) > 0 {
		return format.RecordName(1, records[0])
	}
	return ""
}

func (o *Output) loadManifest(ctx context.Context, epoch uint64) error {
	name := format.ManifestName(epoch)
	sealed, err := readWhole(ctx, o.store, name, format.MaxSealedManifest)
	if err != nil {
		return err
	}
	m, err := format.OpenManifest(sealed, o.key, o.opts.Reference)
	if err != nil {
		return keyHint(fmt.Errorf("reading %s: %w", name, err))
	}
	p := m.Preamble()
	if p.Epoch != epoch || p.Volume != o.preamble.Volume || p.KeyVersion != o.preamble.KeyVersion {
		return fmt.Errorf("reading %s: %w: it is of volume %s, epoch %d", name, format.ErrMalformed, p.Volume, p.Epoch)
	}
	o.keepRecipients(p)
	return o.useManifest(m)
}

func (o *Output) useManifest(m *format.Manifest) error {
	if h := o.opts.Head; h != nil && h.Sequence == 0 && h.Epoch == m.Preamble().Epoch && h.Digest != m.Reference().Manifest {
		return o.withheld(fmt.Sprintf("the manifest of epoch %d with digest %s", h.Epoch, h.Digest))
	}
	o.tree, o.base = loadTree(m), m.Reference().Manifest
	o.head = Head{Epoch: m.Preamble().Epoch, Digest: o.base}
	o.reference = m.Reference()
	return nil
}

func keyHint(err error) error {
	if errors.Is(err, format.ErrWrongKey) {
		return fault.Errorf(fault.Refused, "give the key file that the volume was made with", "%w", err)
	}
	return err
}

// claim begins an epoch: its first record holds the key that this run seals
// with, and of two writers that try, one is refused.
func (o *Output) claim(ctx context.Context, epoch uint64) error {
	if len(o.tree.keys) >= format.MaxKeys {
		return fault.Errorf(fault.Refused, "merge the volume into a new one", "the volume has %d object keys, as many as it may have", len(o.tree.keys))
	}
	k := format.Key{Key: format.NewObjectKey(), Origin: o.preamble.Volume, Slot: uint32(len(o.tree.keys)), Suite: format.Suite16K}
	o.tree.keys = append(o.tree.keys, k)
	o.sealKey, o.slot = k.Key, k.Slot
	o.preamble.Epoch, o.preamble.Sequence, o.preamble.Previous = epoch, 0, o.base
	r := new(format.Record)
	r.Key(k)
	if root := o.tree.nodes[format.RootInode]; !root.journaled {
		r.Inode(root.inode, root.format(nil, nil))
		root.journaled = true
	}
	if err := o.sealRecord(r); err != nil {
		return err
	}
	first := o.pending[0]
	o.pending = nil
	name := format.RecordName(epoch, 1)
	if err := putOnce(ctx, o.store, name, first.sealed); err != nil {
		return err
	}
	// A writer that completes this epoch just now removes its records: ours
	// may have found the place free for that reason.
	if err := o.checkEpoch(ctx); err != nil {
		return errors.Join(err, o.store.Delete(ctx, name))
	}
	o.head = first.head
	o.used = 0
	for _, n := range o.tree.nodes {
		for _, e := range n.extents {
			o.hold(n, e.off, e.end())
		}
	}
	if !o.opts.AtEnd {
		o.limit = int(o.opts.Memory / 2 / pageCost)
	}
	o.streamed = int64(o.objectPlain())
	o.sealers = make(chan *sealer, sealersAtOnce)
	for range sealersAtOnce {
		o.sealers <- new(sealer)
	}
	return nil
}

// Recovery says what was found of a writer that did not close the volume.
type Recovery struct {
	Epoch     uint64           // that it was making
	Reference format.Reference // of that epoch, as it was completed now
	Records   int              // of its journal, fences not counted
	Runs      []format.RunID   // that wrote them
	Files     int              // files that the records made or changed, and that are there
	Bytes     int64            // their sizes
}

// recover takes over an unfinished journal: applies it, fences its writer off,
// and folds it into the manifest of its epoch.
func (o *Output) recover(ctx context.Context, epoch uint64, listed []uint64) error {
	rep := &replayer{replay: replay{tree: o.tree}, epoch: epoch, previous: o.base, found: &Recovery{Epoch: epoch}, touched: map[uint32]bool{}, fences: map[format.RunID]bool{}}
	fence, err := o.replayAndFence(ctx, rep)
	if err != nil {
		return err
	}
	if last := listed[len(listed)-1]; last >= fence {
		if err := o.checkCompleted(ctx, epoch); err != nil {
			return err
		}
		return o.withheld(fmt.Sprintf("record %d, before record %d,", fence, last))
	}
	if h := o.opts.Head; h != nil && h.Epoch == epoch && h.Sequence > 0 && !rep.sawHead {
		return o.withheld(fmt.Sprintf("record %d with digest %s", h.Sequence, h.Digest))
	}
	if err := o.tree.settle(); err != nil {
		return err
	}
	for inode := range rep.touched {
		if n := o.tree.nodes[inode]; n != nil && n.isFile() {
			rep.found.Files++
			rep.found.Bytes += n.size()
		}
	}
	sealed, _, err := o.sealManifest(epoch)
	if err != nil {
		return err
	}
	if err := putOnce(ctx, o.store, format.ManifestName(epoch), sealed); err != nil {
		return err
	}
	m, err := format.OpenManifest(sealed, o.key, nil)
	if err != nil {
		return err
	}
	o.tree.destroy()
	o.recovered = rep.found
	o.recovered.Reference = m.Reference()
	return o.useManifest(m)
}

// checkCompleted returns an error that makes opening begin again if the epoch
// has been completed meanwhile.
func (o *Output) checkCompleted(ctx context.Context, epoch uint64) error {
	o.preamble.Epoch = epoch
	return o.checkEpoch(ctx)
}

// replayer applies the records of an epoch and checks their chain.
type replayer struct {
	replay
	epoch    uint64
	previous format.Digest
	found    *Recovery
	touched  map[uint32]bool
	fences   map[format.RunID]bool // runs that write no more
	sawHead  bool
}

// Inode counts what is recovered.
func (r *replayer) Inode(inode uint32, n format.Node) error {
	r.touched[inode] = true
	return r.replay.Inode(inode, n)
}

// replayAndFence applies records until there is no more, and puts a fence
// there, in the one place where either it or a live writer's next record can
// be. It returns the fence's sequence.
func (o *Output) replayAndFence(ctx context.Context, rep *replayer) (sequence uint64, err error) {
	for sequence = 1; ; sequence++ {
		sealed, err := readWhole(ctx, o.store, format.RecordName(rep.epoch, sequence), format.MaxSealedRecord)
		if fault.KindOf(err) == fault.NotFound {
			if sequence == 1 {
				return 1, o.missingFirst(ctx, rep.epoch)
			}
			err = o.putFence(ctx, rep, sequence)
			if !errors.Is(err, errTaken) {
				return sequence, err
			}
			sealed, err = readWhole(ctx, o.store, format.RecordName(rep.epoch, sequence), format.MaxSealedRecord)
		}
		if err != nil {
			return 0, err
		}
		if err := o.apply(rep, sequence, sealed); err != nil {
			return 0, fmt.Errorf("record %d: %w", sequence, err)
		}
	}
}

func (o *Output) missingFirst(ctx context.Context, epoch uint64) error {
	if err := o.checkCompleted(ctx, epoch); err != nil {
		return err
	}
	return o.withheld("record 1")
}

func (o *Output) putFence(ctx context.Context, rep *replayer, sequence uint64) error {
	p := o.preamble
	p.Epoch, p.Sequence, p.Previous = rep.epoch, sequence, rep.previous
	r := new(format.Record)
	r.Fence()
	sealed, _ := format.SealRecord(o.key, p, r)
	return putOnce(ctx, o.store, format.RecordName(rep.epoch, sequence), sealed)
}

func (o *Output) apply(rep *replayer, sequence uint64, sealed []byte) error {
	p, digest, ops, err := format.OpenRecord(sealed, o.key)
	if err != nil {
		return keyHint(err)
	}
	switch {
	case p.Epoch != rep.epoch || p.Sequence != sequence || p.Volume != o.preamble.Volume || p.KeyVersion != o.preamble.KeyVersion:
		return wrong("it is record %d of epoch %d of volume %s", p.Sequence, p.Epoch, p.Volume)
	case p.Previous != rep.previous:
		return wrong("it does not follow the one before it")
	case rep.fences[p.Run]:
		return wrong("run %s wrote it behind its fence", p.Run)
	}
	if err := format.ReplayRecord(ops, rep); err != nil {
		return err
	}
	o.keepRecipients(p)
	if rep.fenced {
		for _, run := range rep.found.Runs {
			rep.fences[run] = true
		}
		rep.fenced = false
	} else {
		rep.found.Records++
		if !slices.Contains(rep.found.Runs, p.Run) {
			rep.found.Runs = append(rep.found.Runs, p.Run)
		}
	}
	if h := o.opts.Head; h != nil && h.Epoch == rep.epoch && h.Sequence == sequence {
		if h.Digest != digest {
			return wrong("its digest is %s, the head that was kept has %s", digest, h.Digest)
		}
		rep.sawHead = true
	}
	rep.previous = digest
	return nil
}

// sealManifest folds the tree into the manifest of an epoch.
func (o *Output) sealManifest(epoch uint64) ([]byte, format.Reference, error) {
	provenance, err := json.Marshal(map[string]string{"writer": "cloister output", "time": o.opts.Clock().UTC().Format("2006-01-02T15:04:05Z")})
	if err != nil {
		return nil, format.Reference{}, err
	}
	plaintext, err := o.tree.build(provenance)
	if err != nil {
		return nil, format.Reference{}, err
	}
	if o.opts.AtEnd {
		plaintext = padManifest(plaintext)
	}
	p := o.preamble
	p.Epoch, p.Previous = epoch, o.base
	sealed, ref := format.SealManifest(o.key, p, plaintext)
	return sealed, ref, nil
}
