package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"cloister/internal/fault"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
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

// Image is an image whose manifest and configuration are those of its digest.
type Image struct {
	// Reference is repository and digest, as Open was given it.
	Reference string
	// Config is what the image says about the process to start.
	Config v1.Config

	layers []v1.Layer
	diffs  []v1.Hash
}

// ParseReference refuses a reference without a digest: what a tag names can
// change after the policy is agreed on. Errors are of kind fault.Usage.
func ParseReference(reference string) (name.Digest, error) {
	d, err := name.NewDigest(reference, name.StrictValidation)
	if err != nil {
		return d, fault.Errorf(fault.Usage, "write REPOSITORY@sha256:DIGEST; `cloister app publish` prints it",
			"image %.200q is not named by its digest", reference)
	}
	return d, nil
}

// Open finds the image. Of an index it takes the image for linux/amd64. Errors
// are of kind fault.Usage (the reference), NotFound, Denied, Unavailable, and
// Refused where the bytes are not those of the digest or not of a form that the
// platform runs.
func Open(ctx context.Context, reference string, s Source) (*Image, error) {
	ref, err := ParseReference(reference)
	if err != nil {
		return nil, err
	}
	img, err := find(ctx, ref, s)
	if err == nil {
		err = checkManifest(img)
	}
	if err != nil {
		return nil, fmt.Errorf("opening image %s: %w", reference, explain(err))
	}
	out := &Image{Reference: reference}
	if err := out.read(img); err != nil {
		return nil, fmt.Errorf("opening image %s: %w", reference, explain(err))
	}
	return out, nil
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
		return inLayout(strings.TrimPrefix(s.Local, LayoutPrefix), want)
	case strings.HasPrefix(s.Local, ArchivePrefix):
		return inArchive(strings.TrimPrefix(s.Local, ArchivePrefix), want)
	default:
		return nil, fault.Errorf(fault.Usage, "write "+LayoutPrefix+"DIR or "+ArchivePrefix+"FILE", "%.200q names no source of images", s.Local)
	}
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

func inLayout(dir string, want v1.Hash) (v1.Image, error) {
	list, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	manifest, err := list.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range manifest.Manifests {
		if d.Digest != want {
			continue
		}
		img, err := ofDescriptor(d, func() (v1.ImageIndex, error) { return list.ImageIndex(want) }, func() (v1.Image, error) { return list.Image(want) })
		if err != nil || d.MediaType.IsIndex() {
			return img, err
		}
		return pinned(img, want)
	}
	return nil, fault.Errorf(fault.NotFound, "export the image of this digest", "the layout %s has no %s", dir, want)
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

// checkManifest refuses media types that the platform's snapshotter is not
// known to unpack to the same files.
func checkManifest(img v1.Image) error {
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	if !manifest.Config.MediaType.IsConfig() {
		return unsupported("its configuration", manifest.Config.MediaType)
	}
	for i, l := range manifest.Layers {
		switch l.MediaType {
		case types.DockerLayer, types.DockerUncompressedLayer, types.OCILayer, types.OCIUncompressedLayer:
		default:
			return unsupported(fmt.Sprintf("layer %d (%s)", i, l.Digest), l.MediaType)
		}
	}
	return nil
}

func unsupported(what string, have types.MediaType) error {
	return fault.Errorf(fault.Refused, "build it again as an OCI or docker image with gzip or plain tar layers", "%s is of media type %q, which is not supported", what, have)
}

func (i *Image) read(img v1.Image) error {
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	raw, err := partial.ConfigLayer(img)
	if err != nil {
		return err
	}
	if err := i.readConfig(raw, manifest.Config.Digest); err != nil {
		return err
	}
	if i.layers, err = img.Layers(); err != nil {
		return err
	}
	if len(i.layers) == 0 || len(i.layers) != len(i.diffs) {
		return fault.Errorf(fault.Refused, "build it again", "its manifest has %d layers and its configuration %d", len(i.layers), len(i.diffs))
	}
	return nil
}

// maxConfig is far above any configuration seen in use (some 10 KiB).
const maxConfig = 4 << 20

func (i *Image) readConfig(l v1.Layer, want v1.Hash) error {
	r, err := l.Uncompressed()
	if err != nil {
		return err
	}
	defer r.Close()
	var raw bytes.Buffer
	if _, err := raw.ReadFrom(io.LimitReader(r, maxConfig)); err != nil {
		return err
	}
	if err := same("the configuration", raw.Bytes(), want); err != nil {
		return err
	}
	config, err := v1.ParseConfigFile(&raw)
	if err != nil {
		return fault.Errorf(fault.Refused, "build it again", "parsing its configuration: %w", err)
	}
	if config.OS != amd64.OS || config.Architecture != amd64.Architecture {
		return fault.Errorf(fault.Refused, "build it for linux/amd64", "it is for %s/%s", config.OS, config.Architecture)
	}
	i.Config, i.diffs = config.Config, config.RootFS.DiffIDs
	return nil
}

// explain gives what the libraries say a kind and a remedy.
func explain(err error) error {
	var answer *transport.Error
	switch {
	case fault.KindOf(err) != fault.Internal:
		return err
	case errors.As(err, &answer):
		return ofStatus(answer.StatusCode, err)
	case errors.Is(err, fs.ErrNotExist):
		return fault.Errorf(fault.NotFound, "correct the path", "%w", err)
	case errors.Is(err, os.ErrPermission):
		return fault.Errorf(fault.Denied, "", "%w", err)
	case errors.Is(err, context.Canceled):
		return err
	default:
		return fault.Errorf(fault.Unavailable, "see whether the registry is reached from here, and whether its files are whole", "%w", err)
	}
}

func ofStatus(code int, err error) error {
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fault.Errorf(fault.Denied, "sign in to the registry: docker login, podman login or az acr login", "%w", err)
	case http.StatusNotFound:
		return fault.Errorf(fault.NotFound, "correct the repository or the digest", "%w", err)
	default:
		return fault.Errorf(fault.Unavailable, "", "%w", err)
	}
}
