// Command fetch copies the enforcement frameworks' Rego out of the Go modules
// that hold them into the directory that package framework embeds. It is run in
// the repository's root, by `make frameworks`.
//
// Life of a framework: the module is looked up as the go command does, its
// checksum verified against go.sum, downloaded if it is not there; four files of
// its pkg/securitypolicy are copied to a directory named by the framework's own
// version.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const module = "github.com/Microsoft/hcsshim"

// pins are where each generation's version of the module is pinned: the
// directory of a go.mod, and the file's name where it is another.
var pins = [...]struct{ dir, modfile string }{
	{".", ""},
	{"policy/enforcer", ""},
	{"policy/enforcer", "earlier.mod"},
}

func main() {
	if err := run(filepath.Join("policy", "framework", "rego")); err != nil {
		fmt.Fprintln(os.Stderr, "fetching the enforcement frameworks:", err)
		os.Exit(1)
	}
}

func run(out string) error {
	seen := map[string]bool{}
	for _, pin := range pins {
		from, err := find(pin.dir, pin.modfile)
		if err != nil {
			return err
		}
		version, err := os.ReadFile(filepath.Join(from, "version_framework"))
		if err != nil {
			return err
		}
		seen[strings.TrimSpace(string(version))] = true
		if err := copyAll(from, filepath.Join(out, strings.TrimSpace(string(version)))); err != nil {
			return err
		}
	}
	return prune(out, seen)
}

// find returns the directory of the module's security policy.
func find(dir, modfile string) (string, error) {
	args := []string{"mod", "download", "-json"}
	if modfile != "" {
		args = append(args, "-modfile="+modfile)
	}
	cmd := exec.Command("go", append(args, module)...)
	cmd.Dir = dir
	raw, err := cmd.Output()
	var answer struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(raw, &answer); jsonErr != nil || answer.Dir == "" {
		return "", fmt.Errorf("%s: %s %w", dir, answer.Error, errors.Join(err, jsonErr, stderr(err)))
	}
	return filepath.Join(answer.Dir, "pkg", "securitypolicy"), nil
}

func stderr(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return nil
	}
	return errors.New(string(exit.Stderr))
}

// copyAll leaves files that are right as they are: the go command's cache of
// what it has built looks at their times.
func copyAll(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, name := range [...]string{"framework.rego", "api.rego", "version_framework", "version_api"} {
		want, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if have, err := os.ReadFile(filepath.Join(to, name)); err == nil && bytes.Equal(have, want) {
			continue
		}
		if err := os.WriteFile(filepath.Join(to, name), want, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// prune takes away generations that nothing pins any more.
func prune(out string, seen map[string]bool) error {
	entries, err := os.ReadDir(out)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && !seen[e.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(out, e.Name())))
		}
	}
	return err
}
