// Command cloisterd is the runtime inside the confidential container: its
// entrypoint, and the trusted computing base.
//
// Life of a run: `cloisterd run` reads the specification whose digest its
// measured command line pins, follows the contract's log, and opens the gate of
// package enclave, which asks, records, attests and has the keys released in
// one fixed order; each volume is mounted as its key arrives, an output only at
// the state that the record knows or a later one; the application runs in
// namespaces of its own, and while it does, consent is asked again and the
// outputs' heads are recorded. At its end, its own or one that a signal or a
// withdrawn consent makes, no process of it is left; then the outputs are made
// durable, the mounts go, the keys are erased, what was done is recorded, and
// the application's exit code is this program's, if all of that went well.
//
// What others see of a run while it goes on: its log, which the host reads;
// `cloisterd status`, asked on the same machine; metrics and a trace, where all
// parties consent to telemetry; and in the log what the application says, where they
// consent to logging. Volumes are named there, files never.
//
// `cloisterd serve` is the same for an application in another container: what
// starts and ends it is a shim there, see package sidecar.
package main

import (
	"os"

	"cloister/enclave/launch"
	"cloister/internal/cli"

	urfave "github.com/urfave/cli/v2"
)

func main() {
	launch.Init()
	os.Exit(cli.Main(app(), os.Args))
}

func app() *urfave.App {
	return &urfave.App{
		Name:     "cloisterd",
		Usage:    "the clean room's runtime",
		Commands: []*urfave.Command{runCommand(), serveCommand(), statusCommand(), doctorCommand()},
	}
}
