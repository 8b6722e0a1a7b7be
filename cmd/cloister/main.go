// Command cloister is the customers' tool.
package main

import (
	"os"

	"cloister/internal/cli"

	urfave "github.com/urfave/cli/v2"
)

func main() {
	os.Exit(cli.Main(&urfave.App{Name: "cloister", Commands: []*urfave.Command{mountCommand()}}, os.Args))
}
