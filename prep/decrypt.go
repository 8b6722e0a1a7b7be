package prep

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"cloister/fs/format"
	"cloister/internal/fault"
	"cloister/prep/tree"
)

// DecryptOptions say what Decrypt makes of a volume.
type DecryptOptions struct {
	Key       Key
	Reference *format.Reference // nil: the newest epoch
	// Special allows devices, and setuid and setgid bits.
	Special  bool
	Progress Progress
}

// Decrypted is what Decrypt made. The JSON names are part of the command's
// interface.
type Decrypted struct {
	Reference   format.Reference `json:"reference"`
	Files       uint64           `json:"files"`
	Directories uint64           `json:"directories"`
	Others      uint64           `json:"others"`
	Bytes       uint64           `json:"bytes"`
	// Skipped are the devices that were not made, by path, escaped as in Go
	// strings.
	Skipped []string `json:"skipped"`
}

// Decrypt makes the folder again that a volume was sealed from, at target,
// which must not exist or be an empty directory. Everything is made in a
// temporary directory beside or in target and moved there when it is complete
// and durable; on an error it is removed. Every byte that is written has been
// authenticated.
func Decrypt(ctx context.Context, s Store, target string, o DecryptOptions) (*Decrypted, error) {
	m, dek, err := openVolume(ctx, s, o.Key, o.Reference)
	if err != nil {
		return nil, err
	}
	dek.Destroy()
	place, err := newPlace(target)
	if err != nil {
		return nil, err
	}
	x := &extraction{store: s, m: m, paths: newPaths(m), progress: orNone(o.Progress),
		options: tree.Options{Special: o.Special, Owner: os.Geteuid() == 0}}
	x.result.Reference, x.result.Skipped = m.Reference(), []string{}
	err = x.into(ctx, place.staging)
	if err == nil {
		err = place.publish(m, x.options)
	}
	if err != nil {
		return nil, errors.Join(err, place.discard())
	}
	return &x.result, nil
}

// place is where a folder appears: made in staging, shown at target.
type place struct {
	target, staging string
	existed         bool // an empty directory was there; staging is in it
}

func newPlace(target string) (*place, error) {
	p := &place{target: target}
	d, err := os.Open(target)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if _, err := os.Lstat(target); err == nil {
			return nil, fault.Errorf(fault.Conflict, "name a folder that does not exist or is empty", "%s is a symlink to nothing", target)
		}
		clean := filepath.Clean(target)
		p.staging = filepath.Join(filepath.Dir(clean), "."+shorten(filepath.Base(clean))+".cloister-"+rand.Text())
	case err != nil:
		return nil, tree.Explain("opening", target, err)
	default:
		_, err := d.Readdirnames(1)
		d.Close()
		if !errors.Is(err, io.EOF) {
			return nil, fault.Errorf(fault.Conflict, "name a folder that does not exist or is empty", "%s is not an empty folder", target)
		}
		p.existed = true
		p.staging = filepath.Join(target, ".cloister-"+rand.Text())
	}
	if err := os.Mkdir(p.staging, 0o700); err != nil {
		return nil, tree.Explain("making", p.staging, err)
	}
	return p, nil
}

// shorten leaves room in a name of at most 255 bytes for what is added to it.
func shorten(name string) string { return name[:min(len(name), 200)] }

// publish moves what is complete to its place.
func (p *place) publish(m *format.Manifest, o tree.Options) error {
	if !p.existed {
		if err := os.Rename(p.staging, p.target); err != nil {
			return tree.Explain("moving the finished folder to", p.target, err)
		}
		return syncParent(p.target)
	}
	names, err := tree.Names(p.staging)
	if err != nil {
		return err
	}
	// A directory that may not be written to cannot be moved out of either.
	if err := os.Chmod(p.staging, 0o700); err != nil {
		return tree.Explain("moving the finished folder to", p.target, err)
	}
	for _, name := range names {
		if err := os.Rename(tree.Join(p.staging, name), tree.Join(p.target, name)); err != nil {
			return tree.Explain("moving the finished folder to", p.target, err)
		}
	}
	if err := os.Remove(p.staging); err != nil {
		return tree.Explain("removing", p.staging, err)
	}
	return restoreRoot(p.target, m, o)
}

// restoreRoot gives the target directory the attributes of the volume's root.
func restoreRoot(target string, m *format.Manifest, o tree.Options) error {
	d, err := os.Open(target)
	if err != nil {
		return tree.Explain("opening", target, err)
	}
	defer d.Close()
	a, _ := m.Attr(format.RootInode)
	if err := tree.Restore(d, ".", a, m.Xattrs(format.RootInode), o); err != nil {
		return tree.Explain("restoring the attributes of", target, err)
	}
	return nil
}

func syncParent(path string) error {
	d, err := os.Open(filepath.Dir(filepath.Clean(path)))
	if err != nil {
		return nil // it may not be ours to read
	}
	defer d.Close()
	if err := tree.Sync(d); err != nil {
		return tree.Explain("making durable", path, err)
	}
	return nil
}

// discard removes what was made. What has already been moved out of a staging
// directory inside the target goes too: the target was empty.
func (p *place) discard() error {
	err := tree.RemoveAll(p.staging)
	if p.existed {
		names, _ := tree.Names(p.target)
		for _, name := range names {
			err = errors.Join(err, tree.RemoveAll(tree.Join(p.target, name)))
		}
	}
	if err != nil {
		return fmt.Errorf("removing what was half made: %w", err)
	}
	return nil
}
