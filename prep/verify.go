package prep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// VerifyOptions say what Verify checks against.
type VerifyOptions struct {
	Key       Key
	Reference *format.Reference // nil: any state of the volume will do
	Progress  Progress
}

// Verified is what Verify found. The JSON names are part of the command's
// interface.
type Verified struct {
	Reference format.Reference `json:"reference"` // of the newest epoch
	Epochs    int              `json:"epochs"`
	Objects   int              `json:"objects"`
	Segments  int64            `json:"segments"`
	Bytes     int64            `json:"bytes"` // sealed, fetched and opened
	Failures  []Failure        `json:"failures"`
	// Notes are what is odd and harms nothing: objects that no manifest knows,
	// which an interrupted run leaves.
	Notes []string `json:"notes"`
}

// Failure is a part of a volume that is not what was sealed.
type Failure struct {
	Object  string `json:"object"`            // name in the store
	Segment *int64 `json:"segment,omitempty"` // nil: the object as a whole
	Reason  string `json:"reason"`
	// Files are those with bytes there, in the newest epoch that knows the
	// object, escaped as in Go strings.
	Files []string `json:"files,omitempty"`
}

// Verify fetches every object of every epoch that the store holds and opens
// every segment of it. Damage of any kind is in the result's Failures, each
// once, and makes the error one of kind Refused; what kept it from looking, as
// a store that does not answer, is an error of its own. With a reference, a
// volume that does not hold that epoch is refused at once.
func Verify(ctx context.Context, s Store, o VerifyOptions) (*Verified, error) {
	v := &verifier{store: s, options: o, progress: orNone(o.Progress), objects: map[string]*checked{}}
	v.result.Failures, v.result.Notes = []Failure{}, []string{}
	if err := v.openEpochs(ctx); err != nil {
		return nil, err
	}
	if err := v.list(ctx); err != nil {
		return nil, err
	}
	if err := v.checkAll(ctx); err != nil {
		return nil, err
	}
	v.checkPadding()
	slices.SortStableFunc(v.result.Failures, func(a, b Failure) int { return strings.Compare(a.Object, b.Object) })
	if n := len(v.result.Failures); n > 0 {
		return &v.result, fault.Errorf(fault.Refused, "upload the volume again, or restore it from a copy; files that are not named are whole",
			"volume %s is damaged in %s", s, places(n))
	}
	return &v.result, nil
}

func places(n int) string {
	if n == 1 {
		return "1 place"
	}
	return fmt.Sprintf("%d places", n)
}

type verifier struct {
	store    Store
	options  VerifyOptions
	progress Progress
	epochs   []*openedEpoch // oldest first, those that opened
	whole    bool           // every epoch from the first is there, and prep wrote it
	objects  map[string]*checked

	mu     sync.Mutex // guards result
	result Verified
}

type openedEpoch struct {
	m     *format.Manifest
	users map[uint32][]user // by object, made when a failure first needs it
	paths *paths
}

// checked is an object to check, by its name in the store.
type checked struct {
	object
	epoch   *openedEpoch // the newest that knows it
	index   uint32       // there
	sealed  format.Identity
	used    int64 // plaintext bytes up to the end of the last extent
	nonzero int64 // plaintext offset just beyond the last byte that is not zero
}

func (v *verifier) fail(object string, segment *int64, reason error, files []string) {
	text := reason.Error()
	if segment != nil { // the field says it
		text = strings.TrimPrefix(text, fmt.Sprintf("segment %d: ", *segment))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.result.Failures = append(v.result.Failures, Failure{Object: object, Segment: segment, Reason: text, Files: files})
}

func (v *verifier) note(format string, args ...any) {
	v.result.Notes = append(v.result.Notes, fmt.Sprintf(format, args...))
}

func (v *verifier) openEpochs(ctx context.Context) error {
	epochs, err := listEpochs(ctx, v.store)
	if err != nil {
		return err
	}
	if len(epochs) == 0 {
		return noVolume(v.store)
	}
	if ref := v.options.Reference; ref != nil && !slices.ContainsFunc(epochs, func(e epoch) bool { return e.number == ref.Epoch }) {
		return refused(v.store, fmt.Errorf("%w: it has no epoch %d", format.ErrReference, ref.Epoch))
	}
	v.whole = epochs[0].number == 1
	for i, e := range epochs {
		v.whole = v.whole && e.number == uint64(i)+1
		if err := v.openEpoch(ctx, e, i == len(epochs)-1); err != nil {
			return err
		}
	}
	if len(v.epochs) == 0 {
		return nil
	}
	v.result.Epochs = len(v.epochs)
	v.result.Reference = v.epochs[len(v.epochs)-1].m.Reference()
	return nil
}

// openEpoch opens a manifest and takes its objects; one that does not open is a
// failure, a wrong key or reference ends it all. A recipient
// opens the epochs from the first that was sealed for it.
func (v *verifier) openEpoch(ctx context.Context, e epoch, newest bool) error {
	var ref *format.Reference
	if r := v.options.Reference; r != nil && r.Epoch == e.number {
		ref = r
	}
	m, dek, err := openEpoch(ctx, v.store, v.options.Key, e, ref)
	if errors.Is(err, format.ErrNotRecipient) && !newest {
		v.note("epoch %d is not sealed for this key, and was not checked", e.number)
		v.whole = false
		return nil
	}
	if errors.Is(err, format.ErrNotRecipient) || errors.Is(err, format.ErrWrongKey) || errors.Is(err, format.ErrReference) || err != nil && !isDamage(err) {
		return err
	}
	if err != nil {
		v.fail(format.ManifestName(e.number), nil, err, nil)
		return nil
	}
	dek.Destroy()
	v.result.Bytes += e.size
	if len(v.epochs) > 0 {
		v.checkChain(v.epochs[len(v.epochs)-1].m, m)
	}
	v.whole = v.whole && readProvenance(m).Writer == writerName
	opened := &openedEpoch{m: m}
	v.epochs = append(v.epochs, opened)
	return v.takeObjects(opened)
}

// checkChain checks that a manifest follows the one before it.
func (v *verifier) checkChain(before, m *format.Manifest) {
	p, b := m.Preamble(), before.Preamble()
	switch {
	case p.Volume != b.Volume:
		v.fail(format.ManifestName(p.Epoch), nil, fmt.Errorf("it is of volume %s, the epochs before it of %s", p.Volume, b.Volume), nil)
	case p.Epoch == b.Epoch+1 && p.Previous != before.Reference().Manifest:
		v.fail(format.ManifestName(p.Epoch), nil, fmt.Errorf("it was made upon another manifest of epoch %d than is there", b.Epoch), nil)
	}
}

// takeObjects adds the objects of an epoch to those to check. One that two
// epochs pin must be pinned alike.
func (v *verifier) takeObjects(e *openedEpoch) error {
	for i := range uint32(e.m.Objects()) {
		o, err := newObject(e.m, i)
		if err != nil {
			return err
		}
		c := &checked{object: *o, epoch: e, index: i, sealed: e.m.Identity(e.m.Object(i))}
		if old := v.objects[o.name]; old != nil {
			if old.sealed != c.sealed || old.header != c.header || old.length != c.length {
				v.fail(o.name, nil, fmt.Errorf("epochs %d and %d say different things of it", old.epoch.m.Preamble().Epoch, e.m.Preamble().Epoch), nil)
			}
			c.used = old.used
		}
		v.objects[o.name] = c
	}
	for inode := uint32(1); inode <= e.m.Inodes(); inode++ {
		if a, _ := e.m.Attr(inode); a.Type() != format.ModeFile {
			continue
		}
		for x := range e.m.Extents(inode, 0) {
			c := v.objects[e.m.ObjectName(e.m.Object(x.Object))]
			c.used = max(c.used, int64(x.ObjectOff)+int64(x.Length))
		}
	}
	return nil
}

// list compares what the store holds with what the manifests know.
func (v *verifier) list(ctx context.Context) error {
	var total, extra, extraBytes, records int64
	for e, err := range v.store.List(ctx, "") {
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(e.Name, format.DataPrefix) && v.objects[e.Name] == nil:
			extra++
			extraBytes += e.Size
		case strings.HasPrefix(e.Name, format.JournalPrefix):
			records++
		}
		// What is too long is still read as far as it should be: the segments
		// say then what is wrong with it besides.
		if c := v.objects[e.Name]; c != nil && e.Size > c.length {
			v.fail(e.Name, nil, fmt.Errorf("it has %d bytes, %d were sealed", e.Size, c.length), nil)
		}
	}
	for _, c := range v.objects {
		total += c.length
	}
	v.progress.Total(total)
	if extra > 0 {
		v.note("%d data objects (%d bytes) belong to no epoch that is here: an interrupted or unfinished run left them, or manifests are missing", extra, extraBytes)
	}
	if records > 0 {
		v.note("%d journal records of an output are here and were not checked", records)
	}
	if v.options.Reference == nil {
		v.note("no reference was given: an older state of this volume would pass as well")
	}
	return nil
}

func (v *verifier) checkAll(ctx context.Context) error {
	size := int64(0)
	for _, e := range v.epochs {
		size = max(size, windowOf(e.m))
	}
	group, ctx := errgroup.WithContext(ctx)
	work := make(chan *checked)
	for range transfers {
		group.Go(func() error {
			buffer := make([]byte, size)
			for c := range work {
				if err := v.check(ctx, c, buffer); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(work)
		for _, c := range v.objects {
			select {
			case work <- c:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return group.Wait()
}

func (v *verifier) check(ctx context.Context, c *checked, buffer []byte) error {
	err := c.open(ctx, v.store, buffer, func(segment, plainOff int64, plain []byte, err error) error {
		if err != nil {
			v.fail(c.name, &segment, err, v.filesAt(c, segment))
			return nil
		}
		for i, b := range slices.Backward(plain) {
			if b != 0 {
				c.nonzero = plainOff + int64(i) + 1
				break
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		v.fail(c.name, nil, fmt.Errorf("it is shorter than the %d bytes that were sealed", c.length), v.filesAt(c, -1))
	case isMissing(err):
		v.fail(c.name, nil, errors.New("it is not in the store"), v.filesAt(c, -1))
	case err != nil && !isDamage(err) && fault.KindOf(err) != fault.Refused:
		return err
	case err != nil:
		v.fail(c.name, nil, err, v.filesAt(c, -1))
	}
	v.progress.Done(c.length)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.result.Objects++
	v.result.Segments += c.opener.Suite().Segments(c.length)
	if err == nil {
		v.result.Bytes += c.length
	}
	return nil
}

// checkPadding checks that zeros follow the last extent of every object. It is
// certain only where all epochs are there and prep wrote them: else bytes of a
// file of an epoch that was removed may be there.
func (v *verifier) checkPadding() {
	if !v.whole {
		return
	}
	for _, c := range v.objects {
		if c.nonzero > c.used {
			v.fail(c.name, nil, fmt.Errorf("its padding from byte %d of the plaintext is not zeros", c.used), nil)
		}
	}
}

// user is a file with bytes in an object.
type user struct {
	inode     uint32
	off, size int64 // in the object's plaintext
}

// filesAt returns the files with bytes in a segment of an object, or in all of
// it for -1, in the newest epoch that knows it.
func (v *verifier) filesAt(c *checked, segment int64) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	e := c.epoch
	if e.users == nil {
		e.index()
	}
	suite := c.opener.Suite()
	from, to := int64(0), c.opener.PlainLen()
	if segment >= 0 {
		from, to = suite.PlainStart(segment), min(suite.PlainStart(segment+1), to)
	}
	var files []string
	for _, u := range e.users[c.index] {
		if u.off < to && u.off+u.size > from {
			files = append(files, escaped(e.paths.of(u.inode)))
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

func (e *openedEpoch) index() {
	e.users, e.paths = map[uint32][]user{}, newPaths(e.m)
	for inode := uint32(1); inode <= e.m.Inodes(); inode++ {
		if a, _ := e.m.Attr(inode); a.Type() != format.ModeFile {
			continue
		}
		for x := range e.m.Extents(inode, 0) {
			e.users[x.Object] = append(e.users[x.Object], user{inode, int64(x.ObjectOff), int64(x.Length)})
		}
	}
}
