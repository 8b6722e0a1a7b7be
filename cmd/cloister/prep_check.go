package main

import (
	"fmt"
	"io"

	"cloister/prep"

	urfave "github.com/urfave/cli/v2"
)

func inspectCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "inspect",
		Usage:     "say what can be said of a volume without its key",
		ArgsUsage: "VOLUME",
		Description: "What it prints is what the store shows; nothing of it is authenticated.\n\n" +
			"JSON: volume, epochs (each: epoch, key_version, reference, manifest_bytes, run,\n" +
			"recipients (key ids), follows), data_objects, data_bytes, journal_records, signatures,\n" +
			"below (objects of volumes that lie below), others.",
		Flags:  []urfave.Flag{jsonFlag()},
		Action: action(runInspect, "VOLUME"),
	}
}

func runInspect(c *urfave.Context, args []string) error {
	s, err := openStore(c, args[0], false)
	if err != nil {
		return err
	}
	defer s.Close()
	r, err := prep.Inspect(c.Context, s)
	if err != nil {
		return err
	}
	return printResult(c, r, func(stdout, stderr io.Writer) {
		printInspected(stdout, r)
		fmt.Fprintln(stderr, "nothing of this is authenticated: `cloister prep verify` checks it with the key")
	})
}

func printInspected(w io.Writer, r *prep.Inspected) {
	fmt.Fprintf(w, "volume       %s\n", r.Volume)
	fmt.Fprintf(w, "data         %s, %s\n", count(r.DataObjects, "object"), size(r.DataBytes))
	if r.Journal > 0 {
		fmt.Fprintf(w, "journal      %s\n", count(r.Journal, "record"))
	}
	if r.Signatures > 0 {
		fmt.Fprintf(w, "signatures   %d\n", r.Signatures)
	}
	if r.Below > 0 {
		fmt.Fprintf(w, "volumes below  %s\n", count(r.Below, "object"))
	}
	if r.Others > 0 {
		fmt.Fprintf(w, "not a volume's  %s\n", count(r.Others, "object"))
	}
	for _, e := range r.Epochs {
		fmt.Fprintf(w, "epoch %-6d key version %d, manifest of %s", e.Epoch, e.KeyVersion, size(e.Bytes))
		if e.Follows != nil && !*e.Follows {
			fmt.Fprintf(w, ", does NOT follow the epoch before it")
		}
		fmt.Fprintf(w, "\n  %s\n", e.Reference)
		for _, id := range e.Recipients {
			fmt.Fprintf(w, "  for recipient %s\n", id)
		}
	}
}

func verifyCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "verify",
		Usage:     "fetch and authenticate every byte of a volume",
		ArgsUsage: "VOLUME",
		Description: "Lists every object and segment that is damaged or missing, with the files that\n" +
			"have bytes there, and then exits with code 5.\n\n" +
			"JSON: reference, epochs, objects, segments, bytes, failures (each: object,\n" +
			"segment, reason, files, escaped as in Go strings), notes.",
		Flags: append(openerFlags(),
			referenceFlag("refuse a volume that does not hold the state that `REF` names"),
			jsonFlag()),
		Action: action(runVerify, "VOLUME"),
	}
}

func runVerify(c *urfave.Context, args []string) error {
	ref, err := reference(c)
	if err != nil {
		return err
	}
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
	if ref, err = checkWriter(c, s, ref); err != nil {
		return err
	}
	p := startProgress(c, "verifying")
	r, err := prep.Verify(c.Context, s, prep.VerifyOptions{Key: key, Reference: ref, Progress: p})
	p.stop()
	if r == nil {
		return err
	}
	if perr := printResult(c, r, func(stdout, stderr io.Writer) { printVerified(stdout, stderr, r, p) }); perr != nil {
		return perr
	}
	return err
}

func printVerified(stdout, stderr io.Writer, r *prep.Verified, p *progress) {
	for _, f := range r.Failures {
		fmt.Fprintf(stdout, "damaged %s", f.Object)
		if f.Segment != nil {
			fmt.Fprintf(stdout, " segment %d", *f.Segment)
		}
		fmt.Fprintf(stdout, ": %s\n", f.Reason)
		for _, name := range f.Files {
			fmt.Fprintf(stdout, "  %s\n", name)
		}
	}
	for _, note := range r.Notes {
		fmt.Fprintf(stderr, "note: %s\n", note)
	}
	if len(r.Failures) == 0 {
		fmt.Fprintf(stderr, "every byte of %s and %s (%s, %s) is as it was sealed; checked in %v\n",
			count(r.Objects, "object"), count(r.Epochs, "manifest"), count(r.Segments, "segment"), size(r.Bytes), p.elapsed())
		fmt.Fprintln(stdout, r.Reference)
	}
}
