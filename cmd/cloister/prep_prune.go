package main

import (
	"fmt"
	"io"

	"cloister/fs/format"
	"cloister/prep"

	urfave "github.com/urfave/cli/v2"
)

func pruneCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "prune",
		Usage:     "remove epochs that are not kept, and what only they needed",
		ArgsUsage: "VOLUME",
		Description: "Keeps the newest epoch always, and every object that a kept epoch needs or that\n" +
			"a writer at work may count on. A contract pins an epoch: keep it. Data that a\n" +
			"volume was merged from is kept too: every place above VOLUME is looked at, with\n" +
			"the same credentials, and a volume there that --key does not open is taken for one\n" +
			"that was merged. Merged volumes elsewhere have copies of the data.\n\n" +
			"JSON: volume, kept_epochs, removed_epochs, removed_objects, removed_bytes,\n" +
			"left_objects (no epoch's, and perhaps a writer's at work).",
		Flags: append(keyFlags(),
			&urfave.IntFlag{Name: "keep-last", Usage: "keep the newest `N` epochs", DefaultText: "1 beside --keep"},
			&urfave.StringSliceFlag{Name: "keep", Usage: "keep the epoch that `REF` names; may be repeated"},
			&urfave.BoolFlag{Name: "no-writers", Usage: "nothing writes to the volume now: also remove what interrupted runs and uploads left"},
			&urfave.BoolFlag{Name: "break-merged", Usage: "also remove what volumes above were merged from: those can be read no more"},
			&urfave.BoolFlag{Name: "dry-run", Usage: "remove nothing, and say what would go"},
			jsonFlag()),
		Action: action(runPrune, "VOLUME"),
	}
}

func runPrune(c *urfave.Context, args []string) error {
	o := prep.PruneOptions{KeepLast: c.Int("keep-last"), NoWriters: c.Bool("no-writers"), BreakMerged: c.Bool("break-merged"), DryRun: c.Bool("dry-run")}
	for _, text := range c.StringSlice("keep") {
		ref, err := format.ParseReference(text)
		if err != nil {
			return fmt.Errorf("--keep: %w", err)
		}
		o.Keep = append(o.Keep, ref)
	}
	root, err := readKey(c)
	if err != nil {
		return err
	}
	defer root.Destroy()
	o.Root = root
	s, err := openStore(c, args[0], false)
	if err != nil {
		return err
	}
	defer s.Close()
	above, err := openAbove(c, args[0])
	if err != nil {
		return err
	}
	for _, a := range above {
		defer a.Close()
		o.Above = append(o.Above, prep.Above{Store: a, Place: a.place})
	}
	r, err := prep.Prune(c.Context, s, o)
	if err != nil {
		return err
	}
	return printResult(c, r, func(_, stderr io.Writer) {
		removed := "removed"
		if o.DryRun {
			removed = "would remove"
		}
		fmt.Fprintf(stderr, "%s %s and %s of %s; kept %s\n", removed,
			count(len(r.Epochs), "epoch"), count(r.Objects, "object"), size(r.Bytes), count(len(r.Kept), "epoch"))
		if r.Left > 0 {
			fmt.Fprintf(stderr, "note: %s no epoch needs may be a writer's at work; --no-writers removes them\n", count(r.Left, "object"))
		}
	})
}
