package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tried is what the scripts do with a command.
type tried struct{ succeeds, fails bool }

// TestEveryCommandHasAScript: each command that does something is run by a script as
// a process of its own, to success and to a refusal, whose exit code is demanded. The
// help of a command is none of these.
func TestEveryCommandHasAScript(t *testing.T) {
	all := leaves("cloister", newApp().Commands)
	seen := map[string]*tried{}
	for path := range all {
		seen[path] = &tried{}
	}
	scripts, err := filepath.Glob("testdata/[se]*/*.txtar") // script and evidence
	if err != nil || len(scripts) < 10 {
		t.Fatalf("%d scripts: the test looked at nothing (%v)", len(scripts), err)
	}
	for _, file := range scripts {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if path := commandOf(strings.Fields(line), seen); path != "" {
				seen[path].note(strings.Fields(line))
			}
		}
	}
	for path, s := range seen {
		if !s.succeeds {
			t.Errorf("no script runs %s to success", path)
		}
		if !s.fails {
			t.Errorf("no script has %s refuse something", path)
		}
	}
}

// commandOf is the command that a script's line runs, "" for none: the longest path
// of which the words behind "cloister", and its own flags, are.
func commandOf(words []string, known map[string]*tried) string {
	at := slices.Index(words, "cloister")
	if at < 0 {
		return ""
	}
	rest := words[at+1:]
	for len(rest) > 1 && strings.HasPrefix(rest[0], "--") { // the program's own flags take a value
		rest = rest[2:]
	}
	for n := min(len(rest), 3); n > 0; n-- {
		if path := "cloister " + strings.Join(rest[:n], " "); known[path] != nil {
			return path
		}
	}
	return ""
}

func (s *tried) note(words []string) {
	switch {
	case slices.Contains(words, "--help"):
	case words[0] == "exits" && words[1] != "0":
		s.fails = true
	case words[0] == "exits", words[0] == "exec", words[0] == "serve", words[0] == "begin":
		s.succeeds = true
	}
}
