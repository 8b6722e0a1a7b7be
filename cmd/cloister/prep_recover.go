package main

import (
	"fmt"
	"io"

	"cloister/fs"
	"cloister/fs/format"

	urfave "github.com/urfave/cli/v2"
)

func recoverCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "recover",
		Usage:     "complete an output volume whose writer was killed, and print the volume reference",
		ArgsUsage: "VOLUME",
		Description: "Folds the journal that the writer left into the volume's next epoch: everything\n" +
			"that fsync, or close under --sync close, had promised is in it. A writer that is\n" +
			"still at it fails from then on. A volume that was closed stays as it is. Mounting\n" +
			"with --output does the same.\n\n" +
			"JSON: reference, recovered (whether there was anything), epoch, records, files,\n" +
			"bytes.",
		Flags:  append(openerFlags(), jsonFlag()),
		Action: action(runRecover, "VOLUME"),
	}
}

func runRecover(c *urfave.Context, args []string) error {
	key, err := readOpener(c)
	if err != nil {
		return err
	}
	defer key.Destroy()
	s, err := openStore(c, args[0], false)
	if err != nil {
		return err
	}
	defer s.Close()
	found, ref, err := fs.Recover(c.Context, s, key.DEK, fs.OutputOptions{})
	if err != nil {
		return err
	}
	return printRecovery(c, found, ref)
}

func printRecovery(c *urfave.Context, found *fs.Recovery, ref format.Reference) error {
	result := struct {
		Reference string `json:"reference"`
		Recovered bool   `json:"recovered"`
		Epoch     uint64 `json:"epoch"`
		Records   int    `json:"records"`
		Files     int    `json:"files"`
		Bytes     int64  `json:"bytes"`
	}{Reference: ref.String(), Recovered: found != nil, Epoch: ref.Epoch}
	if found != nil {
		result.Records, result.Files, result.Bytes = found.Records, found.Files, found.Bytes
	}
	return printResult(c, result, func(stdout, stderr io.Writer) {
		sayRecovered(stderr, found)
		if found == nil {
			fmt.Fprintln(stderr, "the volume was closed: there is nothing to recover")
		}
		fmt.Fprintln(stdout, ref)
	})
}

func sayRecovered(w io.Writer, r *fs.Recovery) {
	if r != nil {
		fmt.Fprintf(w, "recovered what an earlier writer (run %s) had not closed: %s, %s, %s\n",
			r.Runs, count(r.Records, "record"), count(r.Files, "file"), count(r.Bytes, "byte"))
	}
}
