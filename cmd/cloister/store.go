package main

import (
	"context"
	"fmt"

	"cloister/fs/store"
	"cloister/fs/store/azure"

	urfave "github.com/urfave/cli/v2"
)

func caFileFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "ca-file", Usage: "trust the certificates in `FILE` (PEM) beside the system's, for stores and services"}
}

func patienceFlag() urfave.Flag {
	return &urfave.DurationFlag{Name: "patience", Usage: "how `LONG` to try a store again that fails or does not answer", Value: azure.DefaultPatience}
}

// openStore opens the volume at location, a directory or a blob URL. With
// create it is opened for writing. The caller closes it.
func openStore(c *urfave.Context, location string, create bool) (*store.Store, error) {
	return openStoreIn(c.Context, c, location, create)
}

func openStoreIn(ctx context.Context, c *urfave.Context, location string, create bool) (*store.Store, error) {
	s, err := store.Open(ctx, location, store.Options{Create: create, CAFile: c.String("ca-file"), Patience: c.Duration("patience")})
	if err != nil {
		return nil, fmt.Errorf("opening the volume: %w", err)
	}
	return s, nil
}
