package image

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"path"
	"runtime/debug"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// SBOMType is the media type of what SBOM returns.
const SBOMType = "application/vnd.cyclonedx+json"

// SBOM says what Go programs were built from, in CycloneDX 1.6: the modules and
// versions that the linker wrote into them, and the Go release. It is about the
// first; the others are components of it. It has no time and no serial number,
// so the same programs have the same SBOM.
func SBOM(program File, others ...File) ([]byte, error) {
	bom := cdx.NewBOM()
	var components []cdx.Component
	var on []cdx.Dependency
	seen := map[string]bool{}
	for i, p := range append([]File{program}, others...) {
		application, modules, err := builtFrom(p)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			bom.Metadata = &cdx.Metadata{Component: &application}
		} else {
			components = append(components, application)
		}
		on = append(on, dependency(application.BOMRef, modules))
		for _, m := range modules {
			if !seen[m.BOMRef] {
				components = append(components, m)
			}
			seen[m.BOMRef] = true
		}
	}
	bom.Components, bom.Dependencies = &components, &on
	var b bytes.Buffer
	err := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
	return b.Bytes(), err
}

// builtFrom returns a program, and what is linked into it.
func builtFrom(program File) (application cdx.Component, modules []cdx.Component, err error) {
	info, err := buildinfo.Read(bytes.NewReader(program.Data))
	if err != nil {
		return application, nil, fmt.Errorf("reading what %s was built from: %w", program.Path, err)
	}
	sum := sha256.Sum256(program.Data)
	application = cdx.Component{
		Type: cdx.ComponentTypeApplication, BOMRef: info.Path, Name: path.Base(program.Path), PackageURL: "pkg:golang/" + info.Path,
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
	}
	modules = []cdx.Component{component("std", info.GoVersion, "")}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		modules = append(modules, moduleComponent(m))
	}
	return application, modules, nil
}

func moduleComponent(m *debug.Module) cdx.Component { return component(m.Path, m.Version, m.Sum) }

// component is a module. Its sum is go.sum's, which is not the hash of a file
// and so not among CycloneDX's hashes.
func component(name, version, sum string) cdx.Component {
	purl := "pkg:golang/" + name + "@" + version
	c := cdx.Component{Type: cdx.ComponentTypeLibrary, BOMRef: purl, Name: name, Version: version, PackageURL: purl}
	if sum != "" {
		c.Properties = &[]cdx.Property{{Name: "go:sum", Value: sum}}
	}
	return c
}

func dependency(of string, components []cdx.Component) cdx.Dependency {
	refs := make([]string, len(components))
	for i, c := range components {
		refs[i] = c.BOMRef
	}
	return cdx.Dependency{Ref: of, Dependencies: &refs}
}
