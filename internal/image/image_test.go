package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cloister/internal/fault"
	"cloister/policy/image"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// program is the shim: a Go program of modules, as SBOM needs. A test's own has
// no list of them.
func program(t *testing.T) File {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cloister-shim")
	if out, err := exec.Command("go", "build", "-o", file, "cloister/cmd/cloister-shim").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return File{Path: "/program", Data: data}
}

func scratch(t *testing.T, p File) v1.Image {
	t.Helper()
	img, err := Scratch(Root, p)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func digest(t *testing.T, img v1.Image) string {
	t.Helper()
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// TestDigestIsGolden: an image is a function of its program, on every machine
// and on every day. A change here is a new image of every release.
func TestDigestIsGolden(t *testing.T) {
	const want = "sha256:09b8a794215e4a7f1948a844cd58ead5b3fae13d5d4ec12d214bac9f596a3405"
	got := digest(t, scratch(t, File{Path: "/program", Data: []byte("#!/bin/sh\n")}))
	if got != want {
		t.Errorf("the image's digest is %s, was %s", got, want)
	}
}

func TestScratch(t *testing.T) {
	p := program(t)
	img := scratch(t, p)
	if digest(t, img) != digest(t, scratch(t, p)) {
		t.Error("one program, two images")
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(r)
	header, err := archive.Next()
	if err != nil || header.Name != "program" || header.Mode != 0o555 || header.Uid != 0 || header.ModTime.Unix() != 0 {
		t.Fatalf("the layer begins with %+v, %v", header, err)
	}
	if data, err := io.ReadAll(archive); err != nil || !bytes.Equal(data, p.Data) {
		t.Errorf("the program is not in it: %v", err)
	}
	if _, err := archive.Next(); err != io.EOF {
		t.Errorf("there is more than the program: %v", err)
	}
}

func TestEntry(t *testing.T) {
	img := scratch(t, program(t))
	e, err := EntryOf(t.Context(), "cloisterd", "registry.example/program", img)
	if err != nil {
		t.Fatal(err)
	}
	if e.Digest != digest(t, img) || e.Reference != "registry.example/program@"+e.Digest || len(e.Layers) != 1 || len(e.Layers[0]) != 64 || e.SVN != SVN {
		t.Errorf("%+v", e)
	}
	other, err := EntryOf(t.Context(), "cloisterd", "registry.example/program", scratch(t, File{Path: "/program", Data: []byte("another")}))
	if err != nil || other.Layers[0] == e.Layers[0] {
		t.Errorf("two programs, one root hash: %+v, %v", other, err)
	}
}

func TestSBOM(t *testing.T) {
	p := program(t)
	text, err := SBOM(p)
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		BOMFormat, SpecVersion string
		Components             []struct{ Name, Version string }
	}
	if err := json.Unmarshal(text, &bom); err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, c := range bom.Components {
		names[c.Name] = c.Version
	}
	if bom.BOMFormat != "CycloneDX" || names["std"] == "" || names["golang.org/x/sys"] == "" {
		t.Errorf("%s %s has %v", bom.BOMFormat, bom.SpecVersion, names)
	}
	if again, _ := SBOM(p); !bytes.Equal(again, text) {
		t.Error("one program, two SBOMs")
	}
	if _, err := SBOM(File{Path: "/script", Data: []byte("#!/bin/sh")}); err == nil {
		t.Error("an SBOM of what is no Go program")
	}
}

func TestLayout(t *testing.T) {
	p := program(t)
	sbom, err := SBOM(p)
	if err != nil {
		t.Fatal(err)
	}
	img := scratch(t, p)
	dir := filepath.Join(t.TempDir(), "layout")
	if err := WriteLayout(dir, Named{Name: "program", Image: img, SBOM: sbom}); err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 2 {
		t.Fatalf("%+v, %v", manifest, err)
	}
	if d := manifest.Manifests[0]; d.Digest.String() != digest(t, img) || d.Annotations[image.RefName] != "program" {
		t.Errorf("the first is %+v", d)
	}
	artifact, err := index.Image(manifest.Manifests[1].Digest)
	if err != nil {
		t.Fatal(err)
	}
	m, err := artifact.Manifest()
	if err != nil || m.Subject == nil || m.Subject.Digest.String() != digest(t, img) || string(m.Layers[0].MediaType) != SBOMType {
		t.Errorf("the SBOM's manifest is %+v, %v", m, err)
	}
	if err := WriteLayout(dir, Named{Name: "program", Image: img}); fault.KindOf(err) != fault.Conflict {
		t.Errorf("writing where something is: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) != 1 || strings.HasPrefix(left[0].Name(), ".") {
		t.Errorf("left behind: %v", left)
	}
}

// TestScratchWithOthers: the programs that the first one starts are in its layer,
// and in its SBOM.
func TestScratchWithOthers(t *testing.T) {
	p := program(t)
	other := File{Path: "/other", Data: p.Data}
	img, err := Scratch(Root, p, other)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(r)
	for _, want := range []string{"program", "other"} {
		if header, err := archive.Next(); err != nil || header.Name != want || header.Mode != 0o555 {
			t.Errorf("%+v, %v; want %s", header, err, want)
		}
	}
	if config, err := img.ConfigFile(); err != nil || len(config.Config.Entrypoint) != 1 || config.Config.Entrypoint[0] != "/program" {
		t.Errorf("it starts %+v, %v", config, err)
	}
	text, err := SBOM(p, other)
	if err != nil || !bytes.Contains(text, []byte(`"name": "other"`)) || !bytes.Contains(text, []byte(`"name": "program"`)) {
		t.Errorf("the SBOM, %v: %s", err, text)
	}
}
