package main

import (
	"fmt"
	"io"

	"cloister/fs/format"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// prepSinkCommand names an output volume before it exists: the specification
// needs its id, and the contract pins its DEK.
func prepSinkCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "sink",
		Usage:       "name a new output volume; prints VOLUME_ID:KEY_VERSION:CHECK_VALUE for the contract",
		Description: "Makes nothing: the clean room makes the volume. JSON: volume, key_version, check.",
		Flags: append(keyFlags(),
			&urfave.StringFlag{Name: "volume", Usage: "the `ID` of the volume, 32 hexadecimal digits (default: a random one)"},
			keyVersionFlag(),
			jsonFlag(),
		),
		Action: action(func(c *urfave.Context, _ []string) error {
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
			version, err := keyVersion(c)
			if err != nil {
				return err
			}
			dek := root.DeriveDEK(id, version)
			defer dek.Destroy()
			check := dek.Check(id)
			r := sink{id.String(), version, check.String()}
			return printResult(c, r, func(stdout, _ io.Writer) { fmt.Fprintf(stdout, "%s:%d:%s\n", r.Volume, r.KeyVersion, r.Check) })
		}),
	}
}

// sink is what a contract pins of an output volume that is not there yet.
type sink struct {
	Volume     string `json:"volume"`
	KeyVersion uint32 `json:"key_version"`
	Check      string `json:"check"`
}
