// Package setup holds what installs the parts that tests need, and the check on
// what it fetches.
package setup

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// TestLockFiles: they pin every package by its hash, and name no registry, so
// that a mirror serves as well.
func TestLockFiles(t *testing.T) {
	want := map[string]struct{ name, version string }{
		"azurite":  {"azurite", "3.37.0"},
		"chromium": {"playwright-core", "1.65.1"},
		"duckdb":   {"@duckdb/node-api", "1.5.6-r.1"},
	}
	files, err := filepath.Glob("../*/package-lock.json")
	if err != nil || len(files) != len(want) {
		t.Fatalf("lock files %v (%v), want those of %d parts", files, err, len(want))
	}
	for _, file := range files {
		part := filepath.Base(filepath.Dir(file))
		t.Run(part, func(t *testing.T) { checkLock(t, file, want[part].name, want[part].version) })
	}
}

func checkLock(t *testing.T, file, name, version string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var lock struct {
		Packages map[string]struct{ Version, Resolved, Integrity string }
	}
	if err := json.Unmarshal(data, &lock); err != nil {
		t.Fatal(err)
	}
	if got := lock.Packages["node_modules/"+name].Version; got != version {
		t.Errorf("%s is locked at %q", name, got)
	}
	for name, p := range lock.Packages {
		if p.Resolved != "" || name != "" && p.Integrity == "" {
			t.Errorf("%s: resolved %q, integrity %q", name, p.Resolved, p.Integrity)
		}
	}
}
