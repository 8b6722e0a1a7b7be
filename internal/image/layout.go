package image

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"cloister/internal/fault"
	"cloister/policy/image"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Named is an image of a layout, with its SBOM where there is one.
type Named struct {
	Name  string
	Image v1.Image
	SBOM  []byte // CycloneDX
}

// WriteLayout writes images as an OCI layout into a directory that is not there
// yet: all of it or nothing. An SBOM becomes an artifact that refers to its
// image, which a push to a registry takes along as a referrer.
func WriteLayout(dir string, images ...Named) (err error) {
	if _, err := os.Lstat(dir); err == nil {
		return fault.Errorf(fault.Conflict, "name a directory that is not there, or remove it first", "writing an OCI layout: %s is there already", dir)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	partly, err := os.MkdirTemp(filepath.Dir(dir), ".layout-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(partly)
	if err := os.Chmod(partly, 0o755); err != nil {
		return err
	}
	path, err := layout.Write(partly, empty.Index)
	if err != nil {
		return err
	}
	for _, n := range images {
		if err := appendNamed(path, n); err != nil {
			return fmt.Errorf("writing image %s: %w", n.Name, err)
		}
	}
	if err := readable(partly); err != nil {
		return err
	}
	return os.Rename(partly, dir)
}

// readable gives the files the mode that an archive or another user needs.
func readable(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o644)
	})
}

func appendNamed(path layout.Path, n Named) error {
	name := layout.WithAnnotations(map[string]string{image.RefName: n.Name})
	if err := path.AppendImage(n.Image, name, layout.WithPlatform(platform)); err != nil || n.SBOM == nil {
		return err
	}
	artifact, err := sbomArtifact(n)
	if err != nil {
		return err
	}
	return path.AppendImage(artifact)
}

// sbomArtifact is the SBOM as a manifest whose subject is the image. The type
// of its config is the artifact's type, as the OCI image specification has it.
func sbomArtifact(n Named) (v1.Image, error) {
	subject, err := partial.Descriptor(n.Image)
	if err != nil {
		return nil, err
	}
	artifact := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), SBOMType)
	artifact, err = mutate.AppendLayers(artifact, static.NewLayer(n.SBOM, SBOMType))
	if err != nil {
		return nil, err
	}
	with, ok := mutate.Subject(artifact, v1.Descriptor{MediaType: subject.MediaType, Size: subject.Size, Digest: subject.Digest}).(v1.Image)
	if !ok {
		return nil, fault.Errorf(fault.Internal, "", "an artifact is not an image")
	}
	return with, nil
}
