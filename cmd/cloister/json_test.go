package main

import (
	"slices"
	"strings"
	"testing"

	urfave "github.com/urfave/cli/v2"
)

// factless are the commands that have no --json, by the beginning of what they are
// called, and why.
var factless = map[string]string{
	"cloister audit export": "what it writes is JSON, or as --format says", "cloister spec schema": "what it prints is JSON",
	"cloister audit page": "serves", "cloister local up": "serves", "cloister mount": "serves", "cloister proxy": "serves", "cloister witness serve": "serves",
	"cloister call": "prints what the application answers", "cloister deploy logs": "prints what containers said",
	"cloister completion": "for a shell", "cloister local env": "for a shell", "cloister man": "for people", "cloister quickstart": "for people",
	"cloister doctor":   "for people: a line, ok or FAIL, as each thing is tried",
	"cloister spec add": "changes a file", "cloister spec set": "changes a file", "cloister spec init": "changes a file", "cloister spec merge": "makes a file", "cloister policy index sign": "makes a file",
	"cloister local admit": "does it or fails", "cloister local fault": "does it or fails", "cloister local guest": "does it or fails",
	"cloister witness resume": "does it or fails", "cloister witness withdraw": "does it or fails",
}

// TestEveryFactAsJSON: each command that prints facts prints them as JSON too.
func TestEveryFactAsJSON(t *testing.T) {
	for path, c := range leaves("cloister", newApp().Commands) {
		has := slices.ContainsFunc(c.Flags, func(f urfave.Flag) bool { return slices.Contains(f.Names(), "json") })
		excused := false
		for begin := range factless {
			excused = excused || path == begin || strings.HasPrefix(path, begin+" ")
		}
		if has == excused {
			t.Errorf("%s has --json: %v; it is excused from it: %v", path, has, excused)
		}
	}
}
