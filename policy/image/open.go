package image

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"cloister/internal/fault"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image is an image whose manifest and configuration are those of its digest.
type Image struct {
	// Reference is repository and digest, as Open was given it.
	Reference string
	// Config is what the image says about the process to start.
	Config v1.Config

	// Parts are its parts as the library has them.
	Parts v1.Image

	layers []v1.Layer
	diffs  []v1.Hash
}

// ParseReference refuses a reference without a digest: what a tag names can
// change after the policy is agreed on. Errors are of kind fault.Usage.
func ParseReference(reference string) (name.Digest, error) {
	d, err := name.NewDigest(reference, name.StrictValidation)
	if err != nil {
		return d, fault.Errorf(fault.Usage, "write REPOSITORY@sha256:DIGEST, which `cloister app publish` prints",
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
	if err != nil {
		return nil, fmt.Errorf("opening image %s: %w", reference, explain(err))
	}
	return Of(reference, img)
}

// OpenAny finds an image by its reference, which holds a digest, in its
// registry, or by LayoutPrefix or ArchivePrefix and the path of a source of one
// image. Errors are as Open's.
func OpenAny(ctx context.Context, from string) (*Image, error) {
	if !isLocal(from) {
		return Open(ctx, from, Source{})
	}
	img, err := alone(from)
	if err != nil {
		return nil, fmt.Errorf("opening image %s: %w", from, explain(err))
	}
	return Of(from, img)
}

// Of takes an image that was found, or made, elsewhere; the reference is what it
// is called by. Errors are of kind fault.Refused where it is not of a form that
// the platform runs.
func Of(reference string, img v1.Image) (*Image, error) {
	out := &Image{Reference: reference, Parts: img}
	err := checkManifest(img)
	if err == nil {
		err = out.read(img)
	}
	if err != nil {
		return nil, fmt.Errorf("opening image %s: %w", reference, explain(err))
	}
	return out, nil
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
