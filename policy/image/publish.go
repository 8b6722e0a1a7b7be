package image

import (
	"context"
	"fmt"

	"cloister/internal/fault"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
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
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.Local, explain(err))
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.Local, explain(err))
	}
	out, err := Of(repository+"@"+digest.String(), img)
	if err != nil {
		return nil, err
	}
	if err := remote.Write(repo.Digest(digest.String()), img, s.options(ctx)...); err != nil {
		return nil, fmt.Errorf("publishing %s: %w", out.Reference, explain(err))
	}
	return out, nil
}
