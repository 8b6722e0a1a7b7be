package main

import (
	"strings"
	"testing"

	urfave "github.com/urfave/cli/v2"
)

// TestEveryCommandHasAnExample: --help of each command shows a whole command line
// of it, and each example is of a command, with flags that it has.
func TestEveryCommandHasAnExample(t *testing.T) {
	shown := 0
	for path, c := range leaves("cloister", newApp().Commands) {
		_, of, ok := strings.Cut(c.Description, "Example:\n")
		if !ok {
			t.Errorf("%s has no example: give it one in examples.txt", path)
		}
		for line := range strings.Lines(of) {
			shown++
			checkExample(t, path, line, c)
		}
	}
	if want := strings.Count(examples, "\n"); shown != want {
		t.Errorf("--help shows %d examples of %d: the others are of no command", shown, want)
	}
}

// leaves are the commands that do something, by what they are called.
func leaves(above string, commands []*urfave.Command) map[string]*urfave.Command {
	found := map[string]*urfave.Command{}
	for _, c := range commands {
		path := above + " " + c.Name
		for p, sub := range leaves(path, c.Subcommands) {
			found[p] = sub
		}
		if len(c.Subcommands) == 0 && !c.Hidden {
			found[path] = c
		}
	}
	return found
}

// checkExample checks that flags are the command's own and, as its arguments come
// last, that there are some where it takes some.
func checkExample(t *testing.T, path, line string, c *urfave.Command) {
	t.Helper()
	known := map[string]bool{}
	for _, f := range c.Flags {
		for _, name := range f.Names() {
			known["--"+name] = true
		}
	}
	words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), path))
	for _, word := range words {
		if word == "--" {
			break // what follows is another program's
		}
		if strings.HasPrefix(word, "--") && !known[word] {
			t.Errorf("the example of %s has %s, a flag that it has not", path, word)
		}
	}
	if strings.TrimSpace(c.ArgsUsage) != "" && len(words) == 0 {
		t.Errorf("the example of %s has no %s", path, c.ArgsUsage)
	}
}
