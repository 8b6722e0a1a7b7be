//go:build !linux

package main

import (
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// mountCommand stands in where there is no FUSE that we mount with.
func mountCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "mount",
		Usage: "show a volume as plain files in a directory (Linux only)",
		Action: func(*urfave.Context) error {
			return fault.Errorf(fault.Usage, "use `cloister prep decrypt`, or run `cloister mount` on Linux", "mounting a volume needs Linux")
		},
	}
}
