package main

import (
	"os"
	"path/filepath"

	"cloister/policy/cce"
	"cloister/policy/spec"
	"cloister/prep/tree"
)

// readPolicies reads the Rego files that a specification pins, from beside it. It
// refuses others, and more than a deployment carries.
func readPolicies(specification string, s spec.Specification) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, pinned := range s.Policies() {
		file := filepath.Join(filepath.Dir(specification), filepath.FromSlash(pinned.File))
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, tree.Explain("reading policy", file, err)
		}
		if err := pinned.Check(text); err != nil {
			return nil, err
		}
		files[pinned.File] = text
	}
	if !s.Kind.StartsContainers() {
		return files, nil
	}
	_, err := cce.PoliciesValue(s, files)
	return files, err
}
