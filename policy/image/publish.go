package image

import (
	"context"
	"fmt"
	"strings"

	"cloister/internal/fault"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Publish pushes the one image of s.Local to a repository, "registry/name", and
// returns it as Open would. What is there already is not sent again. Errors are
// as Open's; the platform's refusals come with Roots.
func Publish(ctx context.Context, repository string, s Source) (*Image, error) {
	repo, err := name.NewRepository(repository, name.StrictValidation)
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "write REGISTRY/NAME, without tag or digest", "%.200q is no repository: %w", repository, err)
	}
	img, err := alone(s.Local)
	if err == nil {
		err = checkManifest(img)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.Local, explain(err))
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.Local, explain(err))
	}
	out := &Image{Reference: repository + "@" + digest.String()}
	if err := out.read(img); err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.Local, explain(err))
	}
	if err := remote.Write(repo.Digest(digest.String()), img, s.options(ctx)...); err != nil {
		return nil, fmt.Errorf("publishing %s: %w", out.Reference, explain(err))
	}
	return out, nil
}

// alone is the image of a source that holds one.
func alone(local string) (v1.Image, error) {
	if file, ok := strings.CutPrefix(local, ArchivePrefix); ok {
		return tarball.ImageFromPath(file, nil)
	}
	dir, ok := strings.CutPrefix(local, LayoutPrefix)
	if !ok {
		return nil, fault.Errorf(fault.Usage, "write "+LayoutPrefix+"DIR or "+ArchivePrefix+"FILE", "%.200q names no source of images", local)
	}
	list, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	manifest, err := list.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Manifests) != 1 {
		return nil, fault.Errorf(fault.Usage, "export the image alone", "the layout %s holds %d images", dir, len(manifest.Manifests))
	}
	return inLayout(dir, manifest.Manifests[0].Digest)
}
