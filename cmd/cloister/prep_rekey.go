package main

import (
	"fmt"
	"io"

	"cloister/internal/cli"
	"cloister/prep"

	urfave "github.com/urfave/cli/v2"
)

func rekeyCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "rekey",
		Usage:     "make the next epoch of a volume under a new DEK, without its folder, and print the volume reference",
		ArgsUsage: "VOLUME",
		Description: "The epoch holds what the newest one holds, under the DEK of the next key version.\n" +
			"The manifest alone is sealed anew, and no data moves: that keeps the epoch from who\n" +
			"has the DEK of before. Who has OPENED an epoch of before can have kept the keys of the\n" +
			"data, which stay. With --objects all data is fetched, sealed under a new key and put,\n" +
			"and no plaintext touches a disk; an interrupted run begins again.\n\n" +
			"Epochs of before stay open to who could open them until `cloister prep prune`\n" +
			"removes them, and copies of them for ever. Name recipients again. The reference is\n" +
			"another: the contract is amended to it, and `cloister provision apply --key-version N`\n" +
			"stores the new DEK.\n\n" +
			"JSON: reference, volume, epoch, key_version, new_objects, sealed_bytes, manifest_bytes.",
		Flags: append(keyFlags(),
			&urfave.BoolFlag{Name: "objects", Usage: "seal all data anew too, under a new object key"},
			referenceFlag("go on only if the volume's newest epoch is the one that `REF` names"),
			&urfave.StringFlag{Name: "reference-file", Usage: "also write the reference to `FILE`, replacing it"},
			recipientFlag(), signFlag(), jsonFlag()),
		Action: action(runRekey, "VOLUME"),
	}
}

func runRekey(c *urfave.Context, args []string) error {
	previous, err := reference(c)
	if err != nil {
		return err
	}
	recipients, err := readRecipients(c)
	if err != nil {
		return err
	}
	root, err := readKey(c)
	if err != nil {
		return err
	}
	defer root.Destroy()
	signer, err := readSigner(c)
	if err != nil {
		return err
	}
	if signer != nil {
		defer signer.Destroy()
	}
	s, err := openStore(c, args[0], true)
	if err != nil {
		return err
	}
	defer s.Close()
	p := startProgress(c, "sealing")
	r, err := prep.Rekey(c.Context, s, prep.RekeyOptions{Root: root, Objects: c.Bool("objects"), Previous: previous, Recipients: recipients, Progress: p})
	p.stop()
	if err != nil {
		return err
	}
	if err := printRekeyed(c, args[0], r); err != nil {
		return err
	}
	if err := writeReference(c.String("reference-file"), r.Reference); err != nil {
		return err
	}
	return sign(c.Context, s, r.Reference, signer)
}

func printRekeyed(c *urfave.Context, volume string, r *prep.Rekeyed) error {
	return printResult(c, r, func(stdout, stderr io.Writer) {
		what := "no data was moved"
		if r.NewObjects > 0 {
			what = fmt.Sprintf("%s sealed anew, %s", count(uint64(r.NewObjects), "object"), size(uint64(r.SealedBytes)))
		}
		fmt.Fprintf(stderr, "%s is at epoch %d, of key version %d; %s\n", cli.Printable(volume), r.Epoch, r.KeyVersion, what)
		fmt.Fprintln(stdout, r.Reference)
	})
}
