package image

import (
	"context"

	"cloister/policy/image"
	"cloister/policy/infra"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// EntryOf describes an image of a program that is published under a repository's name. Errors
// are of kind fault.Refused where it is one that the platform does not start.
func EntryOf(ctx context.Context, program, repository string, img v1.Image) (infra.Image, error) {
	digest, err := img.Digest()
	if err != nil {
		return infra.Image{}, err
	}
	published, err := image.Of(repository+"@"+digest.String(), img)
	if err != nil {
		return infra.Image{}, err
	}
	layers, err := published.Roots(ctx, "")
	return infra.Image{Program: program, Reference: published.Reference, Digest: digest.String(), Layers: layers, SVN: SVN}, err
}
