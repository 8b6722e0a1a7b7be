// Command cloister-ledger keeps contracts' logs, and serves them over HTTP.
//
// Life of a server: `cloister-ledger init` makes a log for the parties whose
// documents it is given; `cloister-ledger serve` opens each log it is given, which
// verifies what came since its fold was last saved, or all of it, listens, and prints "ready" and the URL of
// each. SIGTERM lets what is being answered come to its end.
//
// A backup is `cloister-ledger backup`, also while servers append; a plain copy of a
// running ledger could have the sequencer's state newer than the tiles, and be
// refused. What is restored is a log as it once was; whoever saw more of it refuses
// it as rolled back.
package main

import (
	"os"

	"cloister/internal/cli"

	urfave "github.com/urfave/cli/v2"
)

func main() { os.Exit(cli.Main(newApp(), os.Args)) }

func newApp() *urfave.App {
	return &urfave.App{
		Name:     "cloister-ledger",
		Usage:    "keep the records that nobody can rewrite",
		Commands: []*urfave.Command{initCommand(), serveCommand(), backupCommand()},
	}
}
