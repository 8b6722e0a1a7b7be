package main

import (
	"context"
	"fmt"

	"cloister/fs/store"
	"cloister/fs/store/azure"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

func caFileFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "ca-file", Usage: "trust the certificates in `FILE` (PEM) beside the system's, for stores and services"}
}

func patienceFlag() urfave.Flag {
	return &urfave.DurationFlag{Name: "patience", Value: azure.DefaultPatience, Usage: "a blob store that is away for less than `TIME` delays what is done and fails none of it; " +
		"one that stays away fails a read of a mount within twice that, and until it is back"}
}

// anyStore is what holds for every store that a command opens.
func anyStore(c *urfave.Context) (store.Options, error) {
	o := store.Options{CAFile: c.String("ca-file"), Patience: c.Duration("patience"),
		Waiting: func(line string) { fmt.Fprintln(c.App.ErrWriter, "cloister:", line) }}
	if o.Patience <= 0 {
		return o, fault.Errorf(fault.Usage, "give a time such as 60s", "--patience %v is not a time to wait", o.Patience)
	}
	return o, nil
}

// openStore opens the volume at location, a directory or a blob URL. With
// create it is opened for writing. The caller closes it.
func openStore(c *urfave.Context, location string, create bool) (*store.Store, error) {
	return openStoreIn(c.Context, c, location, create)
}

func openStoreIn(ctx context.Context, c *urfave.Context, location string, create bool) (*store.Store, error) {
	o, err := anyStore(c)
	if err != nil {
		return nil, err
	}
	o.Create = create
	s, err := store.Open(ctx, location, o)
	if err != nil {
		return nil, fmt.Errorf("opening the volume: %w", err)
	}
	return s, nil
}
