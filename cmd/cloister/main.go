// Command cloister is the customers' tool: it prepares data, agrees on who may
// use it, provisions keys, and, for development, plays the whole cloud.
package main

import (
	"os"

	"cloister/internal/cli"

	urfave "github.com/urfave/cli/v2"
)

func main() { os.Exit(cli.Main(newApp(), os.Args)) }

func newApp() *urfave.App {
	return &urfave.App{
		Name:  "cloister",
		Usage: "compute on each other's files without seeing them",
		// A comma is an ordinary character in a variable's value.
		DisableSliceFlagSeparator: true,
		Commands: []*urfave.Command{
			localCommand(),
			specCommand(),
			policyCommand(),
		},
	}
}
