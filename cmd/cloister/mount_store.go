//go:build linux

package main

import (
	"fmt"
	"log/slog"

	"cloister/fs/store"
	"cloister/fs/store/diskcache"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// storeFlags are about where a mount's bytes come from.
func storeFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: "cache-dir", Usage: "keep what is fetched, as ciphertext, in `DIR`: mounts may share it, and it may be lost"},
		&urfave.StringFlag{Name: "cache-size", Usage: "let --cache-dir take at most `SIZE` of its disk", Value: "10GiB"},
	}
}

func storeOptions(c *urfave.Context, log *slog.Logger) (store.Options, error) {
	o, err := anyStore(c)
	if err != nil {
		return o, err
	}
	if !c.IsSet("cache-dir") {
		if c.IsSet("cache-size") {
			return o, fault.Errorf(fault.Usage, "name the directory with --cache-dir", "--cache-size is the size of what is not there")
		}
		return o, nil
	}
	if c.Bool("output") {
		return o, fault.Errorf(fault.Usage, "leave out --cache-dir", "--cache-dir is for reading, and --output mounts writable")
	}
	size, err := parseSize(c.String("cache-size"))
	if err != nil {
		return o, fmt.Errorf("--cache-size: %w", err)
	}
	o.Cache = diskcache.Options{Dir: c.String("cache-dir"), Size: size, Log: log}
	return o, nil
}
