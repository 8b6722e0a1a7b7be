package prep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// EncryptOptions say what Encrypt seals, and how.
type EncryptOptions struct {
	Source    string             // the folder
	Root      *format.RootSecret // the owner's
	NoPadding bool
	// Checksum tells changed files from unchanged ones by their bytes, which it
	// fetches from the volume, and not by their times.
	Checksum bool
	// From, if set, is how the folder's files are encrypted as yet: what is
	// sealed is what they hold.
	From *CSE
	// Previous is the reference of the newest epoch, where the caller knows it:
	// a store that shows an older state is then refused, not built upon.
	Previous *format.Reference
	// NewKey seals the epoch under the next key version, and what is sealed anew
	// under a new object key. Whoever could open the epochs before can still, and
	// with them the objects that are used again; but not what is new.
	NewKey bool
	// Recipients are who else can open the epoch; nil: those of the newest one.
	Recipients []*format.Recipient
	Progress   Progress
}

// Sealed is what Encrypt made. The JSON names are part of the command's
// interface.
type Sealed struct {
	Reference     format.Reference `json:"reference"`
	Volume        string           `json:"volume"`
	Epoch         uint64           `json:"epoch"`
	Files         uint64           `json:"files"` // inodes: a hard link counts once
	Directories   uint64           `json:"directories"`
	Others        uint64           `json:"others"` // symlinks, fifos, sockets, devices
	Bytes         uint64           `json:"bytes"`  // of all files, holes included
	ReusedFiles   uint64           `json:"reused_files"`
	Resumed       int              `json:"resumed_objects"` // put by a run that was interrupted
	NewObjects    int              `json:"new_objects"`
	SealedBytes   int64            `json:"sealed_bytes"`   // of new objects
	ManifestBytes int64            `json:"manifest_bytes"` // sealed
}

// provenance is the informative JSON that prep writes into a manifest.
type provenance struct {
	Writer string `json:"writer"`
	// Started is when the walk began, by this machine's clock: files that
	// changed after it, or shortly before, are not taken for unchanged by the
	// next run.
	Started time.Time `json:"started"`
}

const writerName = "cloister prep encrypt"

// readProvenance returns what it can: the section is informative.
func readProvenance(m *format.Manifest) (p provenance) {
	json.Unmarshal(m.Provenance(), &p)
	return p
}

// Encrypt seals a folder as the next epoch of a volume, the first if there is
// no volume at s. Objects of files that have not changed since the newest
// epoch, by size and modification time, are used again, and so are the objects
// that a run put which did not come to its end, whether it was killed, its store
// failed, or a file changed: each is followed from its pending record, and an
// object that was not finished is sealed afresh. A run that fails leaves the
// volume's epochs as they were. Of two writers at once one wins; the other's
// error is of kind Conflict.
func Encrypt(ctx context.Context, s Store, o EncryptOptions) (*Sealed, error) {
	o.Progress = orNone(o.Progress)
	base, err := openBase(ctx, s, o)
	if err != nil {
		return nil, err
	}
	defer base.dek.Destroy()
	if err := base.sealFor(o.Recipients); err != nil {
		return nil, err
	}
	work := newWork(s, o, base)
	if err := work.run(ctx); err != nil {
		return nil, err
	}
	return work.publish(ctx)
}

// base is what an epoch is built on: the newest one, or nothing.
type base struct {
	preamble format.Preamble // of the epoch to be made
	dek      *format.DEK
	manifest *format.Manifest // nil for a first epoch
	pending  []*pending       // what is there of the epoch already
	fresh    bool             // the epoch has a new object key
}

func openBase(ctx context.Context, s Store, o EncryptOptions) (*base, error) {
	m, dek, err := openVolume(ctx, s, o.Root, nil)
	if errors.Is(err, errNoVolume) && o.Previous == nil {
		return newVolume(ctx, s, o.Root)
	}
	if err != nil {
		return nil, err
	}
	p := m.Preamble()
	b := &base{manifest: m, dek: dek, preamble: format.Preamble{
		Suite: suite, KeyVersion: p.KeyVersion, Volume: p.Volume, Run: format.NewRunID(),
		Epoch: p.Epoch + 1, Previous: m.Reference().Manifest, Stanzas: p.Stanzas,
	}}
	if o.NewKey {
		err = b.newKey(s, o)
	}
	if err == nil {
		err = checkNewest(ctx, s, m, o.Previous)
	}
	if err == nil {
		b.pending, err = openPending(ctx, s, o.Root, b.isMadeBy)
	}
	if err != nil {
		b.dek.Destroy()
		return nil, err
	}
	return b, nil
}

// checkNewest refuses a newest epoch that is not the one the caller knows, or has
// none after it.
func checkNewest(ctx context.Context, s Store, m *format.Manifest, known *format.Reference) error {
	switch epoch := m.Preamble().Epoch; {
	case known != nil && m.Reference() != *known:
		return refused(s, fmt.Errorf("%w: its newest is %s", format.ErrReference, m.Reference()))
	case epoch == 1<<64-1:
		return fault.Errorf(fault.Refused, "encrypt into a new volume", "volume %s: there is no epoch after %d", s, epoch)
	default:
		return checkNoJournal(ctx, s, epoch)
	}
}

// newKey has the epoch be of the next key version. Stanzas hold the DEK of before,
// so that recipients must be named again.
func (b *base) newKey(s Store, o EncryptOptions) error {
	if len(b.preamble.Stanzas) > 0 && o.Recipients == nil {
		return fault.Errorf(fault.Usage, "name with --recipient who shall open it, of those that `cloister prep inspect` lists",
			"volume %s is sealed for others too, and a new key is nobody's yet", s)
	}
	if b.preamble.KeyVersion == 1<<32-1 {
		return fault.Errorf(fault.Refused, "encrypt into a new volume", "volume %s: there is no key version after %d", s, b.preamble.KeyVersion)
	}
	b.dek.Destroy()
	b.preamble.KeyVersion++
	b.preamble.Stanzas = nil
	b.dek, b.fresh = o.Root.DeriveDEK(b.preamble.Volume, b.preamble.KeyVersion), true
	return nil
}

// isMadeBy reports whether a record is of the epoch that is being made.
func (b *base) isMadeBy(record format.Preamble) bool {
	return record.Volume == b.preamble.Volume && record.KeyVersion == b.preamble.KeyVersion &&
		record.Epoch == b.preamble.Epoch && record.Previous == b.preamble.Previous
}

// newVolume begins a volume in a place that holds nothing else, or goes on with
// one that was begun under this key.
func newVolume(ctx context.Context, s Store, root *format.RootSecret) (*base, error) {
	for e, err := range s.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(e.Name, format.DataPrefix) && !strings.HasPrefix(e.Name, format.PendingPrefix) {
			return nil, fault.Errorf(fault.Conflict, "name an empty place, or one that does not exist yet",
				"%s is not a volume and not empty: it holds %s", s, e.Name)
		}
	}
	b := &base{preamble: format.Preamble{Suite: suite, KeyVersion: 1, Volume: format.NewVolumeID(), Run: format.NewRunID(), Epoch: 1}}
	begun, err := openPending(ctx, s, root, func(p format.Preamble) bool {
		return p.KeyVersion == 1 && p.Epoch == 1 && p.Previous == format.Digest{}
	})
	if err != nil {
		return nil, err
	}
	if len(begun) > 0 {
		b.preamble.Volume = begun[0].Preamble().Volume
		b.pending = slices.DeleteFunc(begun, func(p *pending) bool { return p.Preamble().Volume != b.preamble.Volume })
	}
	b.dek = root.DeriveDEK(b.preamble.Volume, 1)
	return b, nil
}

// sealFor puts stanzas for recipients in the place of those there are.
func (b *base) sealFor(recipients []*format.Recipient) error {
	if recipients == nil {
		return nil
	}
	stanzas, err := format.Wrap(b.dek, b.preamble.Volume, b.preamble.KeyVersion, recipients...)
	if err != nil {
		return fault.Errorf(fault.Usage, "give each party's document as `cloister party keygen` wrote it", "wrapping the key for the recipients: %w", err)
	}
	b.preamble.Stanzas = stanzas
	return nil
}

// checkNoJournal refuses a volume that an output mount is writing, or was
// killed writing: its next epoch is the journal's.
func checkNoJournal(ctx context.Context, s Store, newest uint64) error {
	for e, err := range s.List(ctx, format.JournalPrefix) {
		if err != nil {
			return err
		}
		if at, _, ok := format.ParseRecordName(e.Name); ok && at > newest {
			return fault.Errorf(fault.Conflict, "end the mount that writes it, or mount it once with `cloister mount --output`, which finishes what a killed one left",
				"volume %s has an unfinished output (%s)", s, e.Name)
		}
	}
	return nil
}

// work is one run of Encrypt.
type work struct {
	store   Store
	options EncryptOptions
	base    *base
	builder *format.Builder
	sealing sealing
	resumed *resume
	result  Sealed
	started time.Time
}

func newWork(s Store, o EncryptOptions, b *base) *work {
	w := &work{store: s, options: o, base: b, builder: new(format.Builder), started: time.Now()}
	key, slot := w.addKeys()
	w.resumed = newResume(w.builder, slot, slices.DeleteFunc(b.pending, func(p *pending) bool { return !sealedWith(p, key) }))
	w.sealing = sealing{store: s, volume: b.preamble.Volume, key: key, slot: slot, pad: !o.NoPadding, from: o.From, progress: o.Progress,
		pending: &pendingWriter{dek: b.dek, preamble: b.preamble, key: key, slot: slot, started: w.started}}
	return w
}

// addKeys keeps the key table of the base and returns the key to seal with:
// the volume's own newest of the current suite, or a new one where there is none
// or the epoch is of a new key version.
func (w *work) addKeys() (key *format.ObjectKey, slot uint32) {
	if m := w.base.manifest; m != nil {
		for i := range uint32(m.Keys()) {
			k := m.Key(i)
			w.builder.AddKey(k)
			if w.base.fresh || k.Origin != w.base.preamble.Volume || k.Slot != i || k.Suite != suite {
				k.Key.Destroy()
				continue
			}
			if key != nil {
				key.Destroy()
			}
			key, slot = k.Key, i
		}
	}
	if key != nil {
		return key, slot
	}
	next := uint32(0)
	if m := w.base.manifest; m != nil {
		next = uint32(m.Keys())
	}
	key = format.NewObjectKey()
	if len(w.base.pending) > 0 { // of a run that had to begin a key as well
		key = w.base.pending[0].Key(0).Key
	}
	return key, w.builder.AddKey(format.Key{Key: key, Origin: w.base.preamble.Volume, Slot: next, Suite: suite})
}

// sealedWith reports whether a record's object was sealed with a key.
func sealedWith(p *pending, key *format.ObjectKey) bool {
	k := p.Key(0).Key
	defer k.Destroy()
	return k.Equal(key)
}

// run walks the folder and has its contents sealed and put.
func (w *work) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer w.sealing.key.Destroy()
	w.sealing.start(ctx)
	walked := w.walk(w.sealing.ctx, w.sealing.add)
	if walked != nil {
		cancel()
	}
	put := w.sealing.finish()
	// The side that failed first made the other end with a bare cancellation.
	if walked != nil && (put == nil || !errors.Is(walked, context.Canceled)) {
		return walked
	}
	return put
}

func (w *work) provenance() ([]byte, error) {
	return json.Marshal(provenance{writerName, w.started.UTC()})
}

// publish puts the manifest: with it the epoch exists.
func (w *work) publish(ctx context.Context) (*Sealed, error) {
	for i, o := range w.sealing.objects {
		w.builder.SetObject(i, o)
		w.result.SealedBytes += o.SealedLen
	}
	w.result.NewObjects = len(w.sealing.objects)
	for _, p := range w.resumed.records {
		if p.used {
			w.result.Resumed++
		}
	}
	text, err := w.provenance()
	if err != nil {
		return nil, err
	}
	w.builder.SetProvenance(text)
	plain, err := w.builder.Finish()
	if err != nil {
		return nil, fmt.Errorf("describing %s: %w", w.options.Source, err)
	}
	sealed, ref := format.SealManifest(w.base.dek, w.base.preamble, plain)
	clear(plain)
	err = w.store.Put(ctx, format.ManifestName(ref.Epoch), sealed)
	if errors.Is(err, fs.ErrExist) {
		return nil, fault.Errorf(fault.Conflict, "run the command again to seal the folder as the epoch after",
			"volume %s: another writer made epoch %d meanwhile; nothing was published", w.store, ref.Epoch)
	}
	if err != nil {
		return nil, err
	}
	w.result.Reference, w.result.Volume = ref, ref.Volume.String()
	w.result.Epoch, w.result.ManifestBytes = ref.Epoch, int64(len(sealed))
	w.forget(ctx)
	return &w.result, nil
}
