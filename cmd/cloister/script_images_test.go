package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"
)

// startRegistry serves an empty registry over TLS; see TestScripts.
func startRegistry(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "registry CAFILE")
	s := httptest.NewTLSServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	ts.Defer(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), ca, 0o644))
	ts.Setenv("REGISTRY", strings.TrimPrefix(s.URL, "https://"))
}

// makeImage writes an OCI layout of an image of one layer; see TestScripts.
func makeImage(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "image DIR PATH...")
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	for _, path := range args[1:] {
		h := &tar.Header{Name: path, Typeflag: tar.TypeReg, Mode: 0o755}
		if strings.HasSuffix(path, "/") {
			h.Typeflag = tar.TypeDir
		}
		ts.Check(w.WriteHeader(h))
	}
	ts.Check(w.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil })
	ts.Check(err)
	img, err := mutate.AppendLayers(empty.Image, layer)
	ts.Check(err)
	config, err := img.ConfigFile()
	ts.Check(err)
	config.OS, config.Architecture = "linux", "amd64"
	config.Config = v1.Config{Env: []string{"PATH=/usr/bin"}, Entrypoint: []string{"/usr/bin/count"}}
	img, err = mutate.ConfigFile(img, config)
	ts.Check(err)
	into, err := layout.Write(ts.MkAbs(args[0]), empty.Index)
	ts.Check(err)
	ts.Check(into.AppendImage(img))
}
