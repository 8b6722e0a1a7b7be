package fs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// closeTries is how often Close tries to make everything durable, waiting
// longer each time; the store has its own patience besides.
const closeTries = 3

// Close makes everything durable, folds the journal into the epoch's manifest,
// removes what is needed no more, and erases the keys. It returns the reference
// of the volume as it now is. The Output cannot be used any more, whatever
// Close returns.
//
// If not everything could be made durable the error is of kind
// fault.Incomplete, no manifest is written, and the journal stays: what was
// promised is found there by the next OpenOutput.
func (o *Output) Close(ctx context.Context) (format.Reference, error) {
	o.mu.Lock()
	if o.closing {
		o.mu.Unlock()
		return format.Reference{}, fault.Errorf(fault.Internal, "", "closing output volume %s: it is closed", o.store)
	}
	o.closing = true
	o.proceed()
	o.mu.Unlock()
	err := o.finish(ctx)
	o.stop()
	<-o.stopped
	defer o.destroy()
	var ref format.Reference
	if err == nil {
		ref, err = o.fold(ctx)
	}
	if err != nil {
		return ref, fault.Errorf(fault.Incomplete, "open the volume for output again: what fsync and close had promised is recovered then",
			"closing output volume %s: not everything is durable: %w", o.store, err)
	}
	return ref, nil
}

// Failed returns an error of kind fault.Unavailable if any flush failed since
// the volume was opened, whether or not a later one made up for it, and nil if
// none did. Programs were told as far as they had the files open, and may have
// given up; what they wrote is all in the volume where Close returned nil.
func (o *Output) Failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed == 0 {
		return nil
	}
	return fault.Errorf(fault.Unavailable, "look at how the programs that wrote there ended: what they were told failed is durable where the volume was closed, and what they left out is not there",
		"output volume %s: the store failed %d times while files were written, the first time: %w", o.store, o.failed, o.failure)
}

// finish commits everything, in more than one try if need be.
func (o *Output) finish(ctx context.Context) (err error) {
	for try := range closeTries {
		if err = o.sync(ctx, nil); err == nil || errors.Is(err, ErrFenced) || try == closeTries-1 || o.opts.AtEnd {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second << try):
		}
	}
	return err
}

func (o *Output) fold(ctx context.Context) (format.Reference, error) {
	o.mu.Lock()
	defer o.mu.Unlock() // for readers of files; nobody else is left
	epoch := o.preamble.Epoch
	sealed, ref, err := o.sealManifest(epoch)
	if err != nil {
		return ref, err
	}
	var orphans []string
	if o.sweep {
		// Listed before our manifest is there: what a later writer puts cannot
		// be among them.
		if orphans, err = o.listData(ctx); err != nil {
			return ref, err
		}
	}
	if err := putOnce(ctx, o.store, format.ManifestName(epoch), sealed); err != nil {
		if errors.Is(err, errTaken) {
			err = fault.Errorf(fault.Conflict, "end the other writer, or give each its own output volume", "%w: %w", ErrFenced, err)
		}
		return ref, fmt.Errorf("writing the manifest of epoch %d: %w", epoch, err)
	}
	if err := o.clean(ctx, epoch, orphans); err != nil {
		// All is durable and complete; the next writer cleans up.
		o.opts.Log.Warn("removing what the volume needs no more", "error", err)
	}
	return ref, nil
}

// clean removes objects that no manifest needs, and then the journal: while
// there are records, the next writer knows that there may be objects.
func (o *Output) clean(ctx context.Context, epoch uint64, orphans []string) error {
	used := map[string]bool{}
	for _, n := range o.tree.nodes {
		if n.attr.Nlink > 0 {
			for _, e := range n.extents {
				used[e.obj.name] = true
			}
		}
	}
	for _, id := range o.put {
		if name := format.ObjectName(id); !used[name] {
			if err := o.store.Delete(ctx, name); err != nil {
				return err
			}
		}
	}
	s, err := o.survey(ctx)
	if err != nil {
		return err
	}
	if err := o.removeOrphans(ctx, s, orphans, used); err != nil {
		return err
	}
	for e, records := range s.records {
		for _, sequence := range records {
			if e > epoch {
				continue
			}
			if err := o.store.Delete(ctx, format.RecordName(e, sequence)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *Output) listData(ctx context.Context) (names []string, err error) {
	for e, err := range o.store.List(ctx, format.DataPrefix) {
		if err != nil {
			return nil, err
		}
		names = append(names, e.Name)
	}
	return names, nil
}

// removeOrphans removes the listed objects that no manifest in the store names.
func (o *Output) removeOrphans(ctx context.Context, s *survey, orphans []string, used map[string]bool) error {
	if len(orphans) == 0 {
		return nil
	}
	for _, epoch := range s.manifests {
		sealed, err := readWhole(ctx, o.store, format.ManifestName(epoch), format.MaxSealedManifest)
		if err != nil {
			return err
		}
		m, err := format.OpenManifest(sealed, o.key, nil)
		if err != nil {
			return fmt.Errorf("reading the manifest of epoch %d: %w", epoch, err)
		}
		for i := range m.Objects() {
			used[m.ObjectName(m.Object(uint32(i)))] = true
		}
	}
	for _, name := range orphans {
		if !used[name] {
			if err := o.store.Delete(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}
