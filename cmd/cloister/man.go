//go:build !urfave_cli_no_docs

package main

import (
	"io"

	urfave "github.com/urfave/cli/v2"
)

// extraCommands has what makes the manual page: `make man` runs it. What makes
// manual pages of Markdown is not in the programs that are built to be used.
func extraCommands() []*urfave.Command {
	return []*urfave.Command{{
		Name:   "man",
		Usage:  "print the manual page",
		Hidden: true,
		Action: action(man),
	}}
}

func man(c *urfave.Context, _ []string) error {
	page, err := c.App.ToManWithSection(1)
	if err != nil {
		return err
	}
	_, err = io.WriteString(c.App.Writer, page)
	return err
}
