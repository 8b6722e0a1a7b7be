package main

import (
	"fmt"
	"io"

	"cloister/fs/format"
	"cloister/internal/fault"
	"cloister/prep/keyfile"

	urfave "github.com/urfave/cli/v2"
)

func escrowCommand() *urfave.Command {
	return &urfave.Command{
		Name: "escrow", Usage: "write a sealed copy of KEYFILE, for a recovery key to open; or with --open, the key file out of one", ArgsUsage: "FILE",
		Description: "The copy is for whoever holds the private half of a recovery key: an age key, made with\n" +
			"age-keygen and kept apart, offline or by somebody trusted. Any age program opens it.\n" +
			"Whoever opens it can open every volume of KEYFILE, of every version, and nothing in\n" +
			"the ledger shows it. It says nothing to clean rooms: neither making nor opening one\n" +
			"changes what runs. `age-keygen -o recovery.txt` makes a recovery key, and prints its\n" +
			"public half.\n\nJSON: file.",
		Flags: append(keyFlags(),
			&urfave.StringSliceFlag{Name: "recipient", Usage: "the recovery key's public half, `age1...`; repeated: any one of them opens it"},
			text("open", "open the sealed `COPY` and write the key file FILE"),
			text("identity", "with --open: the recovery key's private half, `FILE` of age-keygen"),
			jsonFlag()),
		Action: action(runEscrow, "FILE"),
	}
}

func runEscrow(c *urfave.Context, args []string) error {
	sealing := len(c.StringSlice("recipient")) > 0
	if sealing == c.IsSet("open") || c.IsSet("open") != c.IsSet("identity") {
		return fault.Errorf(fault.Usage, "see cloister prep escrow --help", "give --key and --recipient to seal, or --open and --identity to open")
	}
	write := func(secret *format.RootSecret) error {
		return keyfile.Escrow(args[0], secret, c.StringSlice("recipient"))
	}
	read := func() (*format.RootSecret, error) { return readKey(c) }
	if !sealing {
		write = func(secret *format.RootSecret) error { return keyfile.Write(args[0], secret, nil) }
		read = func() (*format.RootSecret, error) { return keyfile.Recover(c.String("open"), c.String("identity")) }
	}
	secret, err := read()
	if err != nil {
		return err
	}
	defer secret.Destroy()
	if err := write(secret); err != nil {
		return err
	}
	return printResult(c, map[string]string{"file": args[0]}, func(stdout, _ io.Writer) { fmt.Fprintln(stdout, args[0]) })
}
