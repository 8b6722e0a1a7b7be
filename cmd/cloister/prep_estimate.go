package main

import (
	"fmt"
	"io"
	"time"

	"cloister/internal/cli"
	"cloister/prep"

	urfave "github.com/urfave/cli/v2"
)

func estimateCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "estimate",
		Usage:     "say what sealing a folder will take in storage and time",
		ArgsUsage: "SRC",
		Description: "Sizes are exact for the folder as it is now; the time is what this machine took\n" +
			"to read and seal some of it. Needs no key and writes nothing.\n\n" +
			"   cloister prep estimate --rate 12MiB DATA\n\n" +
			"JSON: files, directories, others, bytes, objects, sealed_bytes, manifest_bytes,\n" +
			"sealing_ns, upload_ns (0 without --rate).",
		Flags: []urfave.Flag{
			&urfave.StringFlag{Name: "rate", Usage: "also say how long uploading takes at `SIZE` a second, such as 12MiB"},
			&urfave.BoolFlag{Name: "no-padding", Usage: "for objects that are not padded"},
			jsonFlag(),
		},
		Action: action(runEstimate, "SRC"),
	}
}

type estimated struct {
	*prep.Estimate
	Upload time.Duration `json:"upload_ns"`
}

func runEstimate(c *urfave.Context, args []string) error {
	rate := int64(0)
	if text := c.String("rate"); text != "" {
		var err error
		if rate, err = parseSize(text); err != nil {
			return fmt.Errorf("--rate: %w", err)
		}
	}
	e, err := prep.EstimateOf(c.Context, args[0], c.Bool("no-padding"))
	if err != nil {
		return err
	}
	r := estimated{Estimate: e}
	if rate > 0 {
		r.Upload = time.Duration(float64(e.SealedBytes+e.ManifestBytes) / float64(rate) * float64(time.Second))
	}
	return printResult(c, r, func(stdout, _ io.Writer) { r.print(stdout, args[0]) })
}

func (r estimated) print(w io.Writer, source string) {
	fmt.Fprintf(w, "folder   %s: %s, %s, %s, %s\n", cli.Printable(source), count(r.Files, "file"), count(r.Directories, "directory"), count(r.Others, "other"), size(r.Bytes))
	fmt.Fprintf(w, "storage  %s: %s and a manifest of %s\n", size(r.SealedBytes+r.ManifestBytes), count(r.Objects, "object"), size(r.ManifestBytes))
	fmt.Fprintf(w, "sealing  about %v here\n", roundUp(r.Sealing))
	if r.Upload > 0 {
		fmt.Fprintf(w, "upload   about %v\n", roundUp(r.Upload))
	}
}

// roundUp leaves of a duration what an estimate is worth.
func roundUp(d time.Duration) time.Duration {
	unit := time.Second
	if d > time.Hour {
		unit = time.Minute
	}
	return (d + unit - 1).Truncate(unit)
}
