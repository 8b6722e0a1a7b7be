package image

import (
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// TestSBOMIsAReferrer: pushed with its image, an SBOM is what a registry lists as
// referring to that (OCI Distribution 1.1, "Listing Referrers").
func TestSBOMIsAReferrer(t *testing.T) {
	p := program(t)
	sbom, err := SBOM(p)
	if err != nil {
		t.Fatal(err)
	}
	img := scratch(t, p)
	dir := t.TempDir() + "/layout"
	if err := WriteLayout(dir, Named{Name: "program", Image: img, SBOM: sbom}); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	defer s.Close()
	repository, err := name.NewRepository(strings.TrimPrefix(s.URL, "http://") + "/lab/program")
	if err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	list, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list.Manifests {
		each, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(repository.Digest(d.Digest.String()), each); err != nil {
			t.Fatal(err)
		}
	}
	referrers, err := remote.Referrers(repository.Digest(digest(t, img)))
	if err != nil {
		t.Fatal(err)
	}
	found, err := referrers.IndexManifest()
	if err != nil || len(found.Manifests) != 1 || found.Manifests[0].ArtifactType != SBOMType {
		t.Errorf("referring to the image: %+v, %v", found, err)
	}
}
