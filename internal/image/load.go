package image

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"

	"cloister/internal/fault"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Forms of an image that is not in a registry, before a path.
const (
	LayoutPrefix  = "oci:"            // a directory in the OCI image layout, of one image
	ArchivePrefix = "docker-archive:" // a file as `docker save` writes it, of one image
)

// Load finds an image: LayoutPrefix or ArchivePrefix and a path, or a reference
// by digest, for which the registry's credentials are docker's and podman's. What
// a tag names can change, so it names nothing here. Errors are of kind
// fault.Usage, NotFound, Denied, Unavailable and Refused.
func Load(ctx context.Context, from string) (v1.Image, error) {
	img, err := find(ctx, from)
	if err != nil {
		return nil, explain(from, err)
	}
	return img, nil
}

func find(ctx context.Context, from string) (v1.Image, error) {
	if dir, ok := strings.CutPrefix(from, LayoutPrefix); ok {
		return InLayout(dir, "")
	}
	if file, ok := strings.CutPrefix(from, ArchivePrefix); ok {
		return tarball.ImageFromPath(file, nil)
	}
	ref, err := name.NewDigest(from, name.StrictValidation)
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "write REPOSITORY@sha256:DIGEST, "+LayoutPrefix+"DIR or "+ArchivePrefix+"FILE", "image %.200q is not named by its digest", from)
	}
	return remote.Image(ref, remote.WithContext(ctx), remote.WithPlatform(platform), remote.WithAuthFromKeychain(authn.DefaultKeychain))
}

// InLayout returns the image of that name in an OCI layout; with "" the only one.
func InLayout(dir, name string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, explain(dir, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, explain(dir, err)
	}
	var found []v1.Hash
	for _, d := range manifest.Manifests {
		if d.MediaType.IsImage() && (name == "" || d.Annotations[refName] == name) {
			found = append(found, d.Digest)
		}
	}
	if len(found) != 1 {
		return nil, fault.Errorf(fault.NotFound, "give the layout that has it, and it once", "the layout %s has %d images%s, not one", dir, len(found), called(name))
	}
	return index.Image(found[0])
}

func called(name string) string {
	if name == "" {
		return ""
	}
	return " called " + name
}

// explain gives what the library says a kind and a remedy.
func explain(from string, err error) error {
	var answer *transport.Error
	switch {
	case fault.KindOf(err) != fault.Internal:
		return err
	case errors.Is(err, fs.ErrNotExist):
		return fault.Errorf(fault.NotFound, "correct the path", "reading image %s: %w", from, err)
	case errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden):
		return fault.Errorf(fault.Denied, "sign in to the registry: docker login, podman login or az acr login", "reading image %s: %w", from, err)
	case errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound:
		return fault.Errorf(fault.NotFound, "correct the repository or the digest", "reading image %s: %w", from, err)
	default:
		return fault.Errorf(fault.Unavailable, "see whether the registry can be reached, and whether the image is whole", "reading image %s: %w", from, err)
	}
}
