package framework

import (
	"embed"
	"io/fs"
	"path"
	"strings"

	"cloister/internal/fault"

	"github.com/open-policy-agent/opa/v1/ast"
)

//go:embed all:rego
var embedded embed.FS

// Generation is one version of the framework that is in the field.
type Generation struct {
	Version string // of the framework, "0.5.0"
	API     string // of its enforcement points

	modules map[string]string
	syntax  ast.RegoVersion
}

// Generations returns those that this program was built with, oldest first.
func Generations() ([]Generation, error) {
	dirs, err := fs.ReadDir(embedded, "rego")
	if err != nil {
		return nil, err
	}
	var list []Generation
	for _, d := range dirs { // in the order of their names
		if !d.IsDir() {
			continue
		}
		g, err := read(path.Join("rego", d.Name()))
		if err != nil {
			return nil, err
		}
		list = append(list, g)
	}
	if list == nil {
		return nil, fault.Errorf(fault.NotFound, "build it with make, or `make frameworks` first", "this program was built without the platform's enforcement frameworks")
	}
	return list, nil
}

func read(dir string) (g Generation, err error) {
	var texts [4]string
	for i, name := range [...]string{"framework.rego", "api.rego", "version_framework", "version_api"} {
		raw, err := fs.ReadFile(embedded, path.Join(dir, name))
		if err != nil {
			return g, err
		}
		texts[i] = string(raw)
	}
	g.Version, g.API = strings.TrimSpace(texts[2]), strings.TrimSpace(texts[3])
	// What hcsshim does before it compiles them.
	g.modules = map[string]string{
		"framework.rego": strings.Replace(texts[0], "@@FRAMEWORK_VERSION@@", g.Version, 1),
		"api.rego":       strings.Replace(texts[1], "@@API_VERSION@@", g.API, 1),
	}
	// Generations up to 0.4 run in OPA 0.70, later ones in OPA 1.
	g.syntax = ast.RegoV1
	if g.Version < "0.5" {
		g.syntax = ast.RegoV0
	}
	return g, nil
}
