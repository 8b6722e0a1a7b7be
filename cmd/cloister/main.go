// Command cloister is the customers' tool: it prepares data, agrees on who may
// use it, provisions keys, and, for development, plays the whole cloud.
//
// Life of a command: main builds the application from the groups below and
// gives it to package cli, which runs one action under a context that a signal
// cancels, prints the error with its remedies, and returns the exit code. An
// action reads its flags, opens what they name (volumes through openStore),
// calls the package that does the work, and prints its result.
package main

import (
	"os"

	"cloister/internal/cli"

	urfave "github.com/urfave/cli/v2"
)

func main() { os.Exit(cli.Main(newApp(), os.Args)) }

func newApp() *urfave.App {
	return &urfave.App{
		Name:                 "cloister",
		Usage:                "compute on each other's files without seeing them",
		Flags:                []urfave.Flag{caFileFlag(), patienceFlag(), pinFlag()},
		Commands:             withExamples("cloister", append(commands(), extraCommands()...)),
		EnableBashCompletion: true,
		// A comma is an ordinary character in a variable's value.
		DisableSliceFlagSeparator: true,
	}
}

// commands is every group of commands, one line each.
func commands() []*urfave.Command {
	return []*urfave.Command{
		quickstartCommand(),
		prepCommand(),
		mountCommand(),
		specCommand(),
		appCommand(),
		policyCommand(),
		deployCommand(),
		identityCommand(),
		provisionCommand(),
		partyCommand(),
		contractCommand(),
		consentCommand(),
		callCommand(),
		proxyCommand(),
		jobCommand(),
		ledgerCommand(),
		runsCommand(),
		resultsCommand(),
		teardownCommand(),
		auditCommand(),
		evidenceCommand(),
		witnessCommand(),
		doctorCommand(),
		imageCommand(),
		localCommand(),
		completionCommand(),
	}
}
