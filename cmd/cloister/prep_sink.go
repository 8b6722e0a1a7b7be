package main

import (
	"encoding/json"
	"fmt"

	"cloister/fs/format"
	"cloister/internal/cli"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// prepSinkCommand names an output volume before it exists: the specification
// needs its id, and the contract pins its DEK.
func prepSinkCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "sink",
		Usage: "name a new output volume; prints VOLUME_ID:KEY_VERSION:CHECK_VALUE for the contract",
		Flags: append(keyFlags(),
			&urfave.StringFlag{Name: "volume", Usage: "the `ID` of the volume, 32 hexadecimal digits (default: a random one)"},
			&urfave.UintFlag{Name: "key-version", Usage: "the `VERSION` of the DEK", Value: 1},
			jsonFlag(),
		),
		Action: func(c *urfave.Context) error {
			if _, err := cli.Args(c); err != nil {
				return err
			}
			id := format.NewVolumeID()
			if text := c.String("volume"); text != "" {
				var err error
				if id, err = format.ParseVolumeID(text); err != nil {
					return fault.Errorf(fault.Usage, "leave --volume out for a new one", "--volume: %w", err)
				}
			}
			root, err := readKey(c)
			if err != nil {
				return err
			}
			defer root.Destroy()
			version := uint32(c.Uint("key-version"))
			dek := root.DeriveDEK(id, version)
			defer dek.Destroy()
			check := dek.Check(id)
			if c.Bool("json") {
				return json.NewEncoder(c.App.Writer).Encode(map[string]any{"volume": id.String(), "key_version": version, "check": check.String()})
			}
			_, err = fmt.Fprintf(c.App.Writer, "%s:%d:%s\n", id, version, check)
			return err
		},
	}
}
