package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"

	"cloister/governance/witness"
	"cloister/internal/cli"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// witnessCommand is "cloister witness": a party's cosigner.
func witnessCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "witness",
		Usage: "cosign a ledger's checkpoints, so that it can show everybody but one record",
		Description: "Each party can run one. Its key goes into the specification; from then on no\n" +
			"clean room and no party believes a checkpoint that too few witnesses cosigned.\n" +
			"DIR must never be copied, nor restored from a backup: make a new witness.",
		Subcommands: []*urfave.Command{
			witnessInitCommand(), witnessServeCommand(), witnessStatusCommand(), witnessWithdrawCommand(), witnessResumeCommand(),
		},
	}
}

func witnessInitCommand() *urfave.Command {
	return &urfave.Command{
		Name: "init", Usage: "make a witness in DIR; prints its verifier key, for the specification",
		ArgsUsage: "DIR",
		Flags: []urfave.Flag{
			&urfave.StringSliceFlag{Name: "ledger-key", Usage: "verifier `KEY` of a ledger that it follows; may be repeated"},
			&urfave.StringFlag{Name: "name", Usage: "the witness's `NAME`", DefaultText: "a random one"},
			jsonFlag(),
		},
		Action: action(func(c *urfave.Context, args []string) error {
			key, err := witness.Init(args[0], c.String("name"), c.StringSlice("ledger-key")...)
			if err != nil {
				return err
			}
			return printResult(c, map[string]string{"key": key}, func(stdout, _ io.Writer) { fmt.Fprintln(stdout, key) })
		}, "--ledger-key", "DIR"),
	}
}

func witnessServeCommand() *urfave.Command {
	return &urfave.Command{
		Name: "serve", Usage: "cosign for the ledgers that the witness in DIR follows; prints \"ready KEY@URL\"",
		ArgsUsage: "DIR",
		Description: "KEY@URL is how the ledger's operator names the witness to the ledger. Requests\n" +
			"and answers are signed, and say no more than how long the record is; a proxy\n" +
			"that ends TLS may stand before it.",
		Flags: []urfave.Flag{&urfave.StringFlag{Name: "listen", Usage: "`HOST:PORT` to serve at", Value: "127.0.0.1:8447"}},
		Action: action(func(c *urfave.Context, args []string) error {
			w, err := witness.Open(args[0])
			if err != nil {
				return err
			}
			listener, err := net.Listen("tcp", c.String("listen"))
			if err != nil {
				return fault.Errorf(fault.Unavailable, "choose another address with --listen", "%w", err)
			}
			log := slog.New(slog.NewTextHandler(errWriter(c), nil))
			log.Info("serving", "url", "http://"+listener.Addr().String())
			fmt.Fprintf(c.App.Writer, "ready %s@http://%s\n", w.Key(), listener.Addr())
			return w.Serve(c.Context, listener, log)
		}, "DIR"),
	}
}

func witnessStatusCommand() *urfave.Command {
	return &urfave.Command{
		Name: "status", Usage: "how far the witness in DIR has cosigned, and whether its party has withdrawn",
		ArgsUsage:   "DIR",
		Description: "JSON: key, withdrawn, ledgers: key, size, root.",
		Flags:       []urfave.Flag{jsonFlag()},
		Action: action(func(c *urfave.Context, args []string) error {
			w, err := witness.Open(args[0])
			if err != nil {
				return err
			}
			s, err := w.Status()
			if err != nil {
				return err
			}
			return printResult(c, s, func(stdout, _ io.Writer) { printWitness(stdout, s) })
		}, "DIR"),
	}
}

func printWitness(w io.Writer, s witness.Status) {
	fmt.Fprintln(w, s.Key)
	if s.Withdrawn != "" {
		fmt.Fprintln(w, "WITHDRAWN since", cli.Printable(s.Withdrawn))
	}
	for _, l := range s.Ledgers {
		fmt.Fprintf(w, "%d entries of %s\n", l.Size, cli.Printable(l.Key))
	}
}

func witnessWithdrawCommand() *urfave.Command {
	return &urfave.Command{
		Name: "withdraw", Usage: "cosign nothing more; where the specification needs this witness, clean rooms end at their next question",
		ArgsUsage: "DIR",
		Description: "It works also where the ledger takes no statement. `cloister consent withdraw\n" +
			"--witness DIR` says it in the record too.",
		Flags: []urfave.Flag{reasonFlag()},
		Action: action(func(c *urfave.Context, args []string) error {
			return withdrawWitness(args[0], c.String("reason"))
		}, "DIR"),
	}
}

func withdrawWitness(dir, reason string) error {
	w, err := witness.Open(dir)
	if err != nil {
		return err
	}
	if err := w.Withdraw(reason); err != nil {
		return fmt.Errorf("withdrawing the witness in %s: %w", dir, err)
	}
	return nil
}

func witnessResumeCommand() *urfave.Command {
	return &urfave.Command{
		Name: "resume", Usage: "cosign again",
		ArgsUsage: "DIR",
		Action: action(func(_ *urfave.Context, args []string) error {
			w, err := witness.Open(args[0])
			if err != nil {
				return err
			}
			return w.Resume()
		}, "DIR"),
	}
}
