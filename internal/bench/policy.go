package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	registryclient "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sync/errgroup"
)

// The image that a policy is made for: 1 GiB in 5 layers.
const (
	imageLayers    = 5
	layerFiles     = 100
	imageFileBytes = 1 << 30 / imageLayers / layerFiles
)

// policyRows is the container policy of a large image in a registry on loopback.
func policyRows() []row {
	return []row{
		{"policy of an image of 1 GiB in 5 layers", "s", side{"", generatePolicy(false)}, []reference{
			{side{"download | tar -xz", unpackImage}, atMost(1.2)}}},
		{"policy of the same image again, cached", "s", side{"", generatePolicy(true)}, []reference{{bar: within(1, "s")}}},
		{"policy test of a container and its changes", "s", side{"", testPolicy}, []reference{{bar: within(5, "s")}}},
	}
}

// hosted is an image in a registry of this process.
type hosted struct {
	address, reference string
	layers             []string // digests
}

func (l *lab) pushImage() (*hosted, error) {
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	l.atEnd(func() error { s.Close(); return nil })
	h := &hosted{address: s.URL}
	img, err := makeImage()
	if err != nil {
		return nil, err
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	h.reference = strings.TrimPrefix(s.URL, "http://") + "/lab/count@" + digest.String()
	ref, err := name.NewDigest(h.reference)
	if err != nil {
		return nil, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	for _, layer := range manifest.Layers {
		h.layers = append(h.layers, layer.Digest.String())
	}
	return h, registryclient.Write(ref, img)
}

func makeImage() (v1.Image, error) {
	img := v1.Image(empty.Image)
	for n := range imageLayers {
		content, err := makeLayer(uint64(n))
		if err != nil {
			return nil, err
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }, tarball.WithCompressedCaching)
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			return nil, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config.OS, config.Architecture = "linux", "amd64"
	return mutate.ConfigFile(img, config)
}

// makeLayer is files that shrink to about half, as programs do.
func makeLayer(seed uint64) ([]byte, error) {
	random := rand.New(rand.NewPCG(seed, 0))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	file := make([]byte, imageFileBytes)
	for i := range layerFiles {
		for at := 0; at < len(file); at += 64 {
			for j := at; j < min(at+32, len(file)); j++ {
				file[j] = byte(random.Uint32())
			}
		}
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("file-%d-%d", seed, i), Mode: 0o644, Size: int64(len(file)), Typeflag: tar.TypeReg}); err != nil {
			return nil, err
		}
		if _, err := w.Write(file); err != nil {
			return nil, err
		}
	}
	err := w.Close() // writes the end mark: before the bytes are taken
	return b.Bytes(), err
}

// policyDir is a folder with the image's specification, and what makes its policy
// there, with a cache in the folder.
func (l *lab) policyDir(ctx context.Context) (dir string, generate func(out string) error, err error) {
	h, err := l.image()
	if err != nil {
		return "", nil, err
	}
	if dir, err = l.newDir("policy"); err != nil {
		return "", nil, err
	}
	spec := filepath.Join(dir, "spec.yaml")
	generate = func(out string) error {
		return execute(exec.CommandContext(ctx, l.program(), "policy", "generate", "--cache", filepath.Join(dir, "cache"), "--out", filepath.Join(dir, out), spec))
	}
	return dir, generate, os.WriteFile(spec, []byte(strings.ReplaceAll(policySpec, "REFERENCE", h.reference)), 0o600)
}

// generatePolicy times the program, with a cache that is empty or full.
func generatePolicy(cached bool) attempt {
	return func(ctx context.Context, l *lab) (float64, error) {
		dir, generate, err := l.policyDir(ctx)
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		if cached {
			if err := generate("first"); err != nil {
				return 0, err
			}
		}
		return timed(func() error { return generate("out") })
	}
}

// testPolicy times what asks the platform's framework, in all its generations.
func testPolicy(ctx context.Context, l *lab) (float64, error) {
	dir, generate, err := l.policyDir(ctx)
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := generate("out"); err != nil {
		return 0, err
	}
	return timed(func() error {
		return execute(exec.CommandContext(ctx, l.program(), "policy", "test", filepath.Join(dir, "out", "container-policy.rego")))
	})
}

// unpackImage is what the platform must do at least: all layers at once.
func unpackImage(ctx context.Context, l *lab) (float64, error) {
	h, err := l.image()
	if err != nil {
		return 0, err
	}
	dir, err := l.newDir("unpacked")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	return timed(func() error {
		g, ctx := errgroup.WithContext(ctx)
		for _, layer := range h.layers {
			g.Go(func() error { return unpackLayer(ctx, h.address+"/v2/lab/count/blobs/"+layer, dir) })
		}
		return g.Wait()
	})
}

func unpackLayer(ctx context.Context, address, dir string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", address, answer.Status)
	}
	t := exec.CommandContext(ctx, "tar", "-xz", "-C", dir)
	t.Stdin = answer.Body
	return execute(t)
}

func execute(c *exec.Cmd) error {
	out, err := c.CombinedOutput()
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %s", c, out), err)
	}
	return nil
}

const policySpec = `apiVersion: cloister/v1
name: study
kind: aci
model: monolithic
parties:
  - name: lab
    signingKey: "MCowBQYDK2VwAyEAgTl3Dqh9F19Wo1Rmw0x+zMuNipG07jeiXfYPW4/Js5Q="
application:
  name: count
  image:
    reference: REFERENCE
  command: [/usr/bin/count]
network:
  egress: closed
governance:
  ledger: https://ledger.example/study
  ledgerKey: ledger.example+47b56cb0+AQcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH
attestation:
  authority: https://sharedneu.neu.attest.azure.net
  minSVN: 104
`
