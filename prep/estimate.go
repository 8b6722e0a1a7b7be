package prep

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"cloister/fs/format"
)

// Estimate is what sealing a folder as the first epoch of a volume would make.
// The JSON names are part of the command's interface.
type Estimate struct {
	Files         uint64 `json:"files"` // inodes: a hard link counts once
	Directories   uint64 `json:"directories"`
	Others        uint64 `json:"others"` // symlinks, fifos, sockets, devices
	Bytes         uint64 `json:"bytes"`  // of all files, holes included
	Objects       int    `json:"objects"`
	SealedBytes   int64  `json:"sealed_bytes"`   // of the objects
	ManifestBytes int64  `json:"manifest_bytes"` // sealed
	// Sealing is how long reading and sealing would take on this machine, by what
	// the first objects took.
	Sealing time.Duration `json:"sealing_ns"`
}

// sampleTime is how long EstimateOf tries the machine for: enough for some hundred
// MiB.
const sampleTime = time.Second

// EstimateOf walks a folder as Encrypt does and seals only as much of it as tells
// how fast that goes. Sizes are those that Encrypt would make of the folder as it
// is now, to the byte.
func EstimateOf(ctx context.Context, source string, noPadding bool) (*Estimate, error) {
	root := format.NewRootSecret()
	defer root.Destroy()
	b := &base{preamble: format.Preamble{Suite: suite, KeyVersion: 1, Volume: format.NewVolumeID(), Run: format.NewRunID(), Epoch: 1}}
	b.dek = root.DeriveDEK(b.preamble.Volume, 1)
	defer b.dek.Destroy()
	w := newWork(nil, EncryptOptions{Source: source, NoPadding: noPadding, Progress: noProgress{}}, b)
	defer w.sealing.key.Destroy()

	e := estimate{work: w}
	_, e.header = format.SealData(nil, w.sealing.key, e.identity(), nil, false)
	if err := w.walk(ctx, e.count); err != nil {
		return nil, err
	}
	return e.result()
}

type estimate struct {
	*work
	made    Estimate
	header  format.Header // stands for that of every object: all are as long
	planned int64         // bytes in objects
	sampled int64         // of them, sealed
	took    time.Duration
}

// count adds an object to what would be made.
func (e *estimate) count(o *plannedObject) error {
	length := o.length
	if e.sealing.pad {
		length = suite.PaddedPlainLen(length)
	}
	object := format.Object{ID: format.NewObjectID(), Header: e.header, SealedLen: suite.SealedLen(length), Key: e.sealing.slot}
	e.builder.SetObject(o.index, object)
	e.made.Objects++
	e.made.SealedBytes += object.SealedLen
	e.planned += o.length
	if e.took < sampleTime {
		return e.sample(o)
	}
	return nil
}

// sample reads and seals an object, to no store.
func (e *estimate) sample(o *plannedObject) error {
	began := time.Now()
	plain := make([]byte, o.length)
	if err := e.sealing.read(plain, o.pieces); err != nil {
		return err
	}
	format.SealData(nil, e.sealing.key, e.identity(), plain, e.sealing.pad)
	clear(plain)
	e.sampled += o.length
	e.took += time.Since(began)
	return nil
}

func (e *estimate) identity() format.Identity {
	return format.Identity{Suite: suite, Kind: format.KindData, Slot: e.sealing.slot, Volume: e.sealing.volume, Object: format.NewObjectID()}
}

func (e *estimate) result() (*Estimate, error) {
	text, err := e.provenance()
	if err != nil {
		return nil, err
	}
	e.builder.SetProvenance(text)
	plain, err := e.builder.Finish()
	if err != nil {
		return nil, fmt.Errorf("describing %s: %w", e.options.Source, err)
	}
	sealed, _ := format.SealManifest(e.base.dek, e.base.preamble, plain)
	clear(plain)
	r := e.made
	r.Files, r.Directories, r.Others, r.Bytes = e.work.result.Files, e.work.result.Directories, e.work.result.Others, e.work.result.Bytes
	r.ManifestBytes = int64(len(sealed))
	if e.sampled > 0 {
		sealers := min(runtime.GOMAXPROCS(0), maxSealers)
		r.Sealing = time.Duration(float64(e.took) * float64(e.planned) / float64(e.sampled) / float64(sealers))
	}
	return &r, nil
}
