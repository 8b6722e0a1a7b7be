package main

import (
	_ "embed"
	"strings"

	urfave "github.com/urfave/cli/v2"
)

// examples has a command line or more of each command. In capitals is what stands
// for something long.
//
//go:embed examples.txt
var examples string

// withExamples puts the examples at the end of each command's help.
func withExamples(above string, commands []*urfave.Command) []*urfave.Command {
	for _, c := range commands {
		path := above + " " + c.Name
		if withExamples(path, c.Subcommands); len(c.Subcommands) == 0 {
			c.Description = strings.TrimSpace(c.Description + "\n\n" + examplesOf(path))
		}
	}
	return commands
}

// examplesOf returns the examples of the command that is called so, under their
// heading, or nothing.
func examplesOf(path string) string {
	text := ""
	for line := range strings.Lines(examples) {
		if line = strings.TrimSpace(line); line == path || strings.HasPrefix(line, path+" ") {
			text += "\n  " + line
		}
	}
	if text == "" {
		return ""
	}
	return "Example:" + text
}
