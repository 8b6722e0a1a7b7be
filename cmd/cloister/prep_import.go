package main

import (
	"fmt"
	"io"

	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/prep"
	"cloister/prep/keyfile"

	urfave "github.com/urfave/cli/v2"
)

func importCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "import",
		Usage:     "seal a folder that other software has encrypted, as the next epoch of a volume",
		ArgsUsage: "SRC VOLUME",
		Description: "SRC is a folder of files in Azure clean room's CSE layout. Nothing of them is\n" +
			"written to the disk in the clear. The reference is printed as by encrypt.\n\n" +
			"JSON: that of encrypt, and unprotected: what the layout could not protect.",
		Flags: append(keyFlags(),
			&urfave.StringFlag{Name: "from", Usage: "the `LAYOUT` of SRC: azure-cleanroom"},
			&urfave.StringFlag{Name: "source-key", Usage: "the AES-256 key of SRC: a `FILE` of 32 bytes, or of their base64"},
			&urfave.Int64Flag{Name: "block-size", Usage: "the `BYTES` of plaintext in a block of SRC", Value: prep.CSEBlockSize},
			jsonFlag()),
		Action: action(runImport, "--from", "--source-key", "SRC", "VOLUME"),
	}
}

// imported is what import reports.
type imported struct {
	*prep.Sealed
	Unprotected []string `json:"unprotected"`
}

func runImport(c *urfave.Context, args []string) error {
	if from := c.String("from"); from != "azure-cleanroom" {
		return fault.Errorf(fault.Usage, "use azure-cleanroom", "--from %q is not known", from)
	}
	source, volume := args[0], args[1]
	if err := checkSource(source, volume); err != nil {
		return err
	}
	from, err := sourceReader(c)
	if err != nil {
		return err
	}
	root, err := readKey(c)
	if err != nil {
		return err
	}
	defer root.Destroy()
	s, err := openStore(c, volume, true)
	if err != nil {
		return err
	}
	defer s.Close()
	p := startProgress(c, "importing")
	if isTerminal(c.App.ErrWriter) {
		go func() { p.Total(prep.Measure(source)) }()
	}
	sealed, err := prep.Encrypt(c.Context, s, prep.EncryptOptions{Source: source, Root: root, From: from, Progress: p})
	p.stop()
	if err != nil {
		return err
	}
	r := imported{sealed, prep.CSEGaps()}
	return printResult(c, r, func(stdout, stderr io.Writer) {
		fmt.Fprintf(stderr, "sealed %s as epoch %d of volume %s: %s, %s in %v\n",
			cli.Printable(source), r.Epoch, r.Volume, count(r.Files, "file"), size(r.Bytes), p.elapsed())
		fmt.Fprintln(stderr, "what was there before this could not be known from the layout it was in:")
		for _, gap := range r.Unprotected {
			fmt.Fprintln(stderr, " ", gap)
		}
		fmt.Fprintln(stdout, r.Reference)
	})
}

func sourceReader(c *urfave.Context) (*prep.CSE, error) {
	key, err := keyfile.ReadAES256(c.String("source-key"))
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return prep.NewCSE(key, c.Int64("block-size"))
}
