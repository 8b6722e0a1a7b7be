package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"cloister/enclave"
	"cloister/enclave/envelope"
	"cloister/enclave/launch"
	"cloister/fs"
	"cloister/fs/format"
	"cloister/fs/mount"
	"cloister/fs/store"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/policy/spec"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"golang.org/x/sync/errgroup"
)

// mounts are the volumes that the application sees, in the order in which they
// were mounted.
type mounts struct {
	log        *slog.Logger
	spec       spec.Specification
	contract   statement.Contract
	credential func(volume string) (azcore.TokenCredential, error)
	// head returns how far an output has come, as the runs before recorded it;
	// nil where none did.
	head func(ctx context.Context, volume string) (*fs.Head, error)
	// sign makes the run's signature over the reference of an output.
	sign    func(reference string) ([]byte, error)
	source  string // of the mounts, in mount tables: the run's
	memory  *budget
	monitor *monitor
	open    []*mounted
}

// mounted is one of them: of input and output one is nil.
type mounted struct {
	name    string
	spec    spec.Specification
	source  string // of the mount, in mount tables
	mount   *mount.Mount
	store   *store.Store
	input   *fs.Volume
	output  *fs.Output // until it is closed
	written *fs.Output
	pinned  fs.Head // of the output: what is recorded
}

// maxAtOnce is how many volumes are opened at once: a manifest takes memory,
// and opening one waits for two or three answers of the store.
const maxAtOnce = 8

// mount shows the volumes of a stage to the application, in the plan's order
// whichever is ready first. Each is tried, so that the error names all that
// fail; what is mounted stays in open, for close.
func (m *mounts) mount(ctx context.Context, volumes []enclave.Opened) error {
	ready, errs := make([]*mounted, len(volumes)), make([]error, len(volumes))
	var group errgroup.Group
	group.SetLimit(maxAtOnce)
	for i, v := range volumes {
		group.Go(func() error {
			ready[i], errs[i] = m.mountOne(ctx, v.Name, v.DEK)
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs, in the plan's order
	for i, v := range volumes {
		if errs[i] != nil {
			errs[i] = fmt.Errorf("mounting %s: %w", v.Name, errs[i])
			continue
		}
		m.open = append(m.open, ready[i])
		m.monitor.mounted(ready[i])
		m.monitor.reached("mounted " + v.Name)
		m.log.Info("mounted", "volume", v.Name, "writable", ready[i].output != nil)
	}
	return errors.Join(errs...)
}

// shown is where the application finds the volumes.
func (m *mounts) shown() (all []launch.Mount) {
	for _, v := range m.open {
		all = append(all, launch.Mount{Path: v.mount.Dir(), Writable: v.output != nil})
	}
	return all
}

// mountOne leaves nothing behind where it fails. The DEK is the caller's.
func (m *mounts) mountOne(ctx context.Context, name string, dek *envelope.DEK) (_ *mounted, err error) {
	where, writable, err := m.find(name)
	if err != nil {
		return nil, err
	}
	agreed, _ := m.contract.Volume(name)
	ref, err := pinned(agreed)
	if err != nil {
		return nil, err
	}
	if err := makeMountPoint(where.Mount); err != nil {
		return nil, fault.Errorf(fault.Denied, "the mount path of the specification must be one that the runtime can make", "making the mount point of %s: %w", name, err)
	}
	v := &mounted{name: name, spec: m.spec, source: m.source}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.close())
		}
	}()
	if v.store, err = m.openStore(ctx, where, writable); err != nil {
		return nil, err
	}
	key := releasedKey(ref, dek)
	if writable {
		return v, m.mountOutput(ctx, v, where.Mount, key, ref)
	}
	opts := fs.Options{Reference: &ref}
	if where.Fetch == spec.FetchWhole {
		opts.Whole = m.memory.grant
	}
	return v, m.mountInput(ctx, v, where.Mount, key, opts)
}

// makeMountPoint makes a directory and those above it. It does not look into one
// that is there: that may be the dead mount of a runtime that was killed, which
// package mount clears.
func makeMountPoint(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

func (m *mounts) find(name string) (where spec.Source, writable bool, err error) {
	for _, s := range m.spec.DataSinks {
		if s.Name == name {
			return s.Source(), true, nil
		}
	}
	for _, list := range [][]spec.Source{m.spec.Code, m.spec.DataSources} {
		for _, s := range list {
			if s.Name == name {
				return s, false, nil
			}
		}
	}
	return where, false, fault.Errorf(fault.Internal, "", "the specification has no volume %q", name)
}

func (m *mounts) publishedAtEnd(name string) bool {
	return slices.ContainsFunc(m.spec.DataSinks, func(s spec.Sink) bool { return s.Name == name && s.Publish == spec.PublishAtEndPadded })
}

func (m *mounts) openStore(ctx context.Context, where spec.Source, writable bool) (*store.Store, error) {
	cred, err := m.credential(where.Name)
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, where.Store, store.Options{Credential: cred, Create: writable})
}

// releasedKey gives the released DEK for the volume it was released for, and
// for no other.
func releasedKey(ref format.Reference, dek *envelope.DEK) fs.KeyFunc {
	return func(p format.Preamble) (*format.DEK, error) {
		if p.Volume != ref.Volume || p.KeyVersion != ref.KeyVersion {
			return nil, fault.Errorf(fault.Refused, "the store must hold the volume that the contract pins",
				"the store holds volume %s, key version %d; the contract pins %s, key version %d", p.Volume, p.KeyVersion, ref.Volume, ref.KeyVersion)
		}
		return format.DEKFromBytes(dek.Bytes())
	}
}

// mountInput shows the volume as the application's user's own: a file that only
// its owner may read is meant for the one program that the contract lets read
// it, and the owners that the volume knows are users of another machine.
func (m *mounts) mountInput(ctx context.Context, v *mounted, dir string, key fs.KeyFunc, opts fs.Options) (err error) {
	if v.input, err = fs.Open(ctx, m.monitor.count(v.name, v.store), key, opts); err != nil {
		return err
	}
	uid, gid := applicationUser(v.spec)
	v.mount, err = mount.Input(dir, v.input, mount.Options{Logger: m.log, Owner: &mount.Owner{UID: uid, GID: gid}, Source: v.source})
	return err
}

// mountOutput wants of the store at least what the runs before recorded; where
// none did, exactly what the contract pins, if it pins a state.
func (m *mounts) mountOutput(ctx context.Context, v *mounted, dir string, key fs.KeyFunc, ref format.Reference) (err error) {
	uid, gid := applicationUser(v.spec)
	opts := fs.OutputOptions{Create: true, Volume: ref.Volume, KeyVersion: ref.KeyVersion, Log: m.log,
		Root: format.Attr{Mode: format.ModeDir | 0o755, UID: uid, GID: gid}}
	if m.publishedAtEnd(v.name) {
		opts.AtEnd, opts.Memory = true, max(1, m.memory.sink) // 0 would be the default
	}
	agreed, _ := m.contract.Volume(v.name)
	if opts.Recipients, err = recipientsOf(m.spec, agreed); err != nil {
		return err
	}
	if opts.Head, err = m.head(ctx, v.name); err != nil {
		return err
	}
	// A run that goes on from the pinned epoch writes the ones after it.
	if ref.Epoch > 0 && (opts.Head == nil || opts.Head.Epoch <= ref.Epoch) {
		opts.Reference, opts.Head = &ref, nil
	}
	if v.output, err = fs.OpenOutput(ctx, m.monitor.count(v.name, v.store), key, opts); err != nil {
		return err
	}
	v.written = v.output
	if r := v.output.Recovered(); r != nil {
		m.log.Warn("recovered what an earlier writer left", "volume", v.name, "found", fmt.Sprintf("%+v", *r))
		if err = m.putSignature(ctx, v, r.Reference); err != nil {
			return err
		}
	}
	v.mount, err = mount.Output(dir, v.output, mount.Options{Logger: m.log, Source: v.source})
	return err
}

// unmountTime is how long the mounts are given to become free: no process of
// the application is left, but the kernel may still be taking its namespaces
// down.
const unmountTime = 10 * time.Second

// output is what came of an output volume.
type output struct {
	name      string
	reference format.Reference
}

// close unmounts everything, the outputs first made durable, and returns the
// references of the outputs. An output that is not all durable has no entry
// and is part of the error; so is, behind all such, one whose store failed on
// the way: the application may not have written what it would have.
func (m *mounts) close(ctx context.Context) ([]output, error) {
	var outputs []output
	var errs, failed []error
	for _, v := range m.open {
		if err := v.unmount(ctx); err != nil {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", v.name, err))
		}
		if v.output != nil {
			ref, err := v.output.Close(ctx)
			failed = append(failed, v.output.Failed())
			v.output = nil
			if err != nil {
				errs = append(errs, fmt.Errorf("finishing output %s: %w", v.name, err))
			} else {
				outputs = append(outputs, output{v.name, ref})
				errs = append(errs, m.putSignature(ctx, v, ref))
			}
		}
		errs = append(errs, v.close())
	}
	m.open = nil
	return outputs, errors.Join(append(errs, failed...)...)
}

// putSignature puts beside an output what tells it from one that somebody else
// sealed for its recipients.
func (m *mounts) putSignature(ctx context.Context, v *mounted, ref format.Reference) error {
	signed, err := m.sign(ref.String())
	if err == nil {
		err = v.store.Put(ctx, format.SignatureName(ref.Epoch), signed)
	}
	if err != nil {
		return fmt.Errorf("signing output %s: %w", v.name, err)
	}
	return nil
}

// unmount takes the mount away for real; where somebody holds it to the last,
// it is at least taken out of the tree.
func (v *mounted) unmount(ctx context.Context) error {
	if v.mount == nil {
		return nil
	}
	deadline := time.Now().Add(unmountTime)
	for {
		err := v.mount.Unmount()
		if err == nil || fault.KindOf(err) != fault.Conflict || time.Now().After(deadline) || ctx.Err() != nil {
			if err != nil {
				err = errors.Join(err, v.mount.Detach())
			}
			v.mount = nil
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// abort ends the waiting for answers of volumes that do not come.
func (m *mounts) abort() {
	for _, v := range m.open {
		if err := v.mount.Abort(); err != nil {
			m.log.Error("the application waits for a volume and cannot be ended", "error", err)
		}
	}
}

// close gives up what is left of a volume.
func (v *mounted) close() error {
	var errs []error
	if v.mount != nil {
		errs = append(errs, v.unmount(context.Background()))
	}
	if v.output != nil {
		_, err := v.output.Close(context.Background())
		errs = append(errs, err)
	}
	if v.input != nil {
		v.input.Close()
	}
	if v.store != nil {
		errs = append(errs, v.store.Close())
	}
	return errors.Join(errs...)
}
