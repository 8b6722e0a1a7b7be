package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/cce"
	"cloister/policy/image"
	"cloister/policy/infra"
	"cloister/policy/spec"
	"cloister/prep/tree"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	urfave "github.com/urfave/cli/v2"
)

// imageFlags say where the images of a specification come from.
func imageFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringSliceFlag{Name: "image", Usage: "`REFERENCE=SOURCE`: take an image of the specification from oci:DIR or docker-archive:FILE instead of its registry"},
		&urfave.StringFlag{Name: "cache", Value: string(image.DefaultCache()), Usage: "remember layers' hashes in `DIR`; '' does not"},
		&urfave.StringFlag{Name: "infrastructure", Usage: "hold the runtime against the infrastructure details in `FILE`"},
		&urfave.StringFlag{Name: "infrastructure-key", Usage: "`KEY` of who signed them: a party's document, PEM, or base64"},
	}
}

// inputsOf reads the images that a specification names. The simulated platform
// has none.
func inputsOf(c *urfave.Context, s spec.Specification) (in cce.Inputs, err error) {
	index, err := readInfrastructure(c)
	if err != nil || s.Kind == spec.Simulated {
		return in, err
	}
	in = cce.Inputs{Images: map[string]cce.Image{}, Infrastructure: index.Platform()}
	sources, err := imageSources(c)
	if err != nil {
		return in, err
	}
	runtime := s.Application.Image
	if s.Model == spec.Distributed {
		runtime = s.Runtime.Image
	}
	for _, want := range []*spec.Image{s.Application.Image, runtime} {
		if _, done := in.Images[want.Reference]; done {
			continue
		}
		if in.Images[want.Reference], err = measure(c, want.Reference, sources); err != nil {
			return in, err
		}
	}
	for reference := range sources {
		if _, used := in.Images[reference]; !used {
			return in, fault.Errorf(fault.Usage, "write the reference as the specification has it", "--image %s: the specification names no such image", reference)
		}
	}
	if !c.IsSet("infrastructure") {
		return in, nil
	}
	_, err = index.Find(infra.ProgramRuntime, runtime.Reference, in.Images[runtime.Reference].Layers)
	if err == nil && s.Model == spec.Distributed {
		app := s.Application.Image.Reference
		_, err = index.Find(infra.ProgramShim, app, in.Images[app].Layers)
	}
	return in, err
}

// measure reads one image.
func measure(c *urfave.Context, reference string, sources map[string]string) (cce.Image, error) {
	transport, err := registryTransport(c)
	if err != nil {
		return cce.Image{}, err
	}
	img, err := image.Open(c.Context, reference, image.Source{Local: sources[reference], Transport: transport})
	if err != nil {
		return cce.Image{}, err
	}
	roots, err := img.Roots(c.Context, image.Cache(c.String("cache")))
	return cce.Image{Layers: roots, Environment: img.Config.Env, WorkingDir: img.Config.WorkingDir}, err
}

func imageSources(c *urfave.Context) (map[string]string, error) {
	sources := map[string]string{}
	for _, arg := range c.StringSlice("image") {
		reference, source, ok := strings.Cut(arg, "=")
		if _, twice := sources[reference]; !ok || twice {
			return nil, fault.Errorf(fault.Usage, "write --image REFERENCE=oci:DIR, once for each image", "--image %.200q is not REFERENCE=SOURCE, or is there twice", arg)
		}
		sources[reference] = source
	}
	return sources, nil
}

// registryTransport trusts what --ca-file names beside the system's.
func registryTransport(c *urfave.Context) (http.RoundTripper, error) {
	roots, err := caRoots(c)
	if err != nil || roots == nil {
		return remote.DefaultTransport, err
	}
	t := remote.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return t, nil
}

// caRoots are the system's certificates and those of --ca-file, nil without it.
func caRoots(c *urfave.Context) (*x509.CertPool, error) {
	file := c.String("ca-file")
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, tree.Explain("reading", file, err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil || roots == nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fault.Errorf(fault.Usage, "give certificates in PEM", "--ca-file %s holds no certificate", file)
	}
	return roots, nil
}

// readInfrastructure returns the infrastructure details that the flags name, or
// none.
func readInfrastructure(c *urfave.Context) (infra.Index, error) {
	file := c.String("infrastructure")
	if c.IsSet("infrastructure") != c.IsSet("infrastructure-key") {
		return infra.Index{}, fault.Errorf(fault.Usage, "give both", "--infrastructure and --infrastructure-key belong together: the details are worth what their signature is")
	}
	if file == "" {
		return infra.Index{}, nil
	}
	signed, err := os.ReadFile(file)
	if err != nil {
		return infra.Index{}, tree.Explain("reading", file, err)
	}
	spki, err := infrastructureKey(c)
	if err != nil {
		return infra.Index{}, err
	}
	x, err := infra.Open(c.Context, signed, spki)
	if err != nil {
		return x, fmt.Errorf("%s: %w", file, err)
	}
	return x, nil
}

func infrastructureKey(c *urfave.Context) ([]byte, error) {
	text, err := publicKey(c.String("infrastructure-key"), signingKey)
	if err != nil {
		return nil, fmt.Errorf("--infrastructure-key: %w", err)
	}
	spki, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "name the signer's document, or give the public key in base64", "--infrastructure-key %.80q: %w", text, err)
	}
	return spki, nil
}
