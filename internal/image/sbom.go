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

// SBOM says what a Go program was built from, in CycloneDX 1.6: the modules and
// versions that the linker wrote into it, and the Go release. It has no time and
// no serial number, so the same program has the same SBOM.
func SBOM(program File) ([]byte, error) {
	info, err := buildinfo.Read(bytes.NewReader(program.Data))
	if err != nil {
		return nil, fmt.Errorf("reading what %s was built from: %w", program.Path, err)
	}
	bom := cdx.NewBOM()
	sum := sha256.Sum256(program.Data)
	bom.Metadata = &cdx.Metadata{Component: &cdx.Component{
		Type: cdx.ComponentTypeApplication, BOMRef: info.Path, Name: path.Base(program.Path), PackageURL: "pkg:golang/" + info.Path,
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
	}}
	components := []cdx.Component{component("std", info.GoVersion, "")}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		components = append(components, moduleComponent(m))
	}
	bom.Components = &components
	bom.Dependencies = dependencies(info.Path, components)
	var b bytes.Buffer
	err = cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
	return b.Bytes(), err
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

func dependencies(on string, components []cdx.Component) *[]cdx.Dependency {
	refs := make([]string, len(components))
	for i, c := range components {
		refs[i] = c.BOMRef
	}
	return &[]cdx.Dependency{{Ref: on, Dependencies: &refs}}
}
