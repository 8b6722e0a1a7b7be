package image

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"cloister/internal/fault"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Forms of a local source, before a path.
const (
	LayoutPrefix  = "oci:"            // a directory in the OCI image layout
	ArchivePrefix = "docker-archive:" // a file as `docker save` writes it, of one image
)

// Platform of the images that the confidential platform runs.
var amd64 = v1.Platform{OS: "linux", Architecture: "amd64"}

// Source says where an image's bytes come from.
type Source struct {
	// Local is LayoutPrefix or ArchivePrefix and a path; "" is the registry that
	// the reference names.
	Local string
	// Transport reaches the registry; nil is the library's own.
	Transport http.RoundTripper
	// Keychain has the registry's credentials; nil is docker's and podman's files
	// and credential helpers.
	Keychain authn.Keychain
}

func (s Source) options(ctx context.Context) []remote.Option {
	list := []remote.Option{remote.WithContext(ctx), remote.WithPlatform(amd64), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	if s.Keychain != nil {
		list = append(list, remote.WithAuthFromKeychain(s.Keychain))
	}
	if s.Transport != nil {
		list = append(list, remote.WithTransport(s.Transport))
	}
	return list
}

func find(ctx context.Context, ref name.Digest, s Source) (v1.Image, error) {
	want, err := v1.NewHash(ref.DigestStr())
	if err != nil {
		return nil, err
	}
	switch {
	case s.Local == "":
		d, err := remote.Get(ref, s.options(ctx)...)
		if err != nil {
			return nil, err
		}
		return ofDescriptor(d.Descriptor, d.ImageIndex, d.Image)
	case strings.HasPrefix(s.Local, LayoutPrefix):
		return inLayout(strings.TrimPrefix(s.Local, LayoutPrefix), "of "+want.String(), func(d v1.Descriptor) bool { return d.Digest == want })
	case strings.HasPrefix(s.Local, ArchivePrefix):
		return inArchive(strings.TrimPrefix(s.Local, ArchivePrefix), want)
	default:
		return nil, noSource(s.Local)
	}
}

func isLocal(source string) bool {
	return strings.HasPrefix(source, LayoutPrefix) || strings.HasPrefix(source, ArchivePrefix)
}

func noSource(local string) error {
	return fault.Errorf(fault.Usage, "write "+LayoutPrefix+"DIR or "+ArchivePrefix+"FILE", "%.200q names no source of images", local)
}

func ofDescriptor(d v1.Descriptor, index func() (v1.ImageIndex, error), image func() (v1.Image, error)) (v1.Image, error) {
	switch {
	case d.MediaType.IsIndex():
		list, err := index()
		if err != nil {
			return nil, err
		}
		return ofPlatform(list, d.Digest)
	case d.MediaType.IsImage():
		return image()
	default:
		return nil, unsupported("its manifest", d.MediaType)
	}
}

// ofPlatform is the one image of an index that the platform would take.
func ofPlatform(list v1.ImageIndex, want v1.Hash) (v1.Image, error) {
	raw, err := list.RawManifest()
	if err != nil {
		return nil, err
	}
	if err := same("the index", raw, want); err != nil {
		return nil, err
	}
	manifest, err := list.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range manifest.Manifests {
		if d.Platform != nil && d.Platform.Satisfies(amd64) && d.MediaType.IsImage() {
			img, err := list.Image(d.Digest)
			if err != nil {
				return nil, err
			}
			return pinned(img, d.Digest)
		}
	}
	return nil, fault.Errorf(fault.Refused, "build it for linux/amd64", "its index has no image for linux/amd64")
}

// RefName is the annotation by which an OCI layout names its images (OCI image
// specification, annotations).
const RefName = "org.opencontainers.image.ref.name"

// InLayout returns the one image of that name in an OCI layout. Errors are as
// Open's.
func InLayout(dir, name string) (*Image, error) {
	called := func(d v1.Descriptor) bool { return d.MediaType.IsImage() && d.Annotations[RefName] == name }
	img, err := inLayout(dir, "images called "+name, called)
	if err != nil {
		return nil, fmt.Errorf("opening image %s of layout %s: %w", name, dir, explain(err))
	}
	return Of(name, img)
}

func inLayout(dir, what string, wanted func(v1.Descriptor) bool) (v1.Image, error) {
	list, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	manifest, err := list.IndexManifest()
	if err != nil {
		return nil, err
	}
	found := slices.DeleteFunc(manifest.Manifests, func(d v1.Descriptor) bool { return !wanted(d) })
	if len(found) != 1 {
		return nil, fault.Errorf(fault.NotFound, "give a layout that has it, and it once", "the layout %s has %d %s, not one", dir, len(found), what)
	}
	d := found[0]
	img, err := ofDescriptor(d, func() (v1.ImageIndex, error) { return list.ImageIndex(d.Digest) }, func() (v1.Image, error) { return list.Image(d.Digest) })
	if err != nil || d.MediaType.IsIndex() {
		return img, err
	}
	return pinned(img, d.Digest)
}

// alone is the image of a local source that holds one.
func alone(local string) (v1.Image, error) {
	if file, ok := strings.CutPrefix(local, ArchivePrefix); ok {
		return tarball.ImageFromPath(file, nil)
	}
	if dir, ok := strings.CutPrefix(local, LayoutPrefix); ok {
		return inLayout(dir, "images", func(v1.Descriptor) bool { return true })
	}
	return nil, noSource(local)
}

func inArchive(file string, want v1.Hash) (v1.Image, error) {
	img, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		return nil, err
	}
	have, err := img.Digest()
	if err != nil {
		return nil, err
	}
	if have != want {
		return nil, fault.Errorf(fault.Refused, "publish it with `cloister app publish`, and name the digest that it prints",
			"the archive %s holds %s; an archive has that digest only if it was pushed by this tool", file, have)
	}
	return img, nil
}

// pinned holds a manifest against the digest it was found under: a layout is
// somebody's files.
func pinned(img v1.Image, want v1.Hash) (v1.Image, error) {
	raw, err := img.RawManifest()
	if err != nil {
		return nil, err
	}
	return img, same("the manifest", raw, want)
}

func same(what string, raw []byte, want v1.Hash) error {
	have, _, err := v1.SHA256(bytes.NewReader(raw))
	if err == nil && have != want {
		err = fault.Errorf(fault.Refused, "get the image again", "%s has digest %s, not %s", what, have, want)
	}
	return err
}
