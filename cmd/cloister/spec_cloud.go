package main

import (
	"cloister/policy/spec"
	"cloister/policy/spec/yaml"

	urfave "github.com/urfave/cli/v2"
)

func setCloudCommand() *urfave.Command {
	return &urfave.Command{
		Name: "cloud", Usage: "which of Azure's clouds the services are in: public, usgovernment or china", ArgsUsage: "FILE CLOUD",
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, nil, "FILE", "CLOUD")
			if err != nil {
				return err
			}
			return editSpecAbout(c, args[0], []string{"cloud"}, func(d *yaml.Document) (*yaml.Document, error) {
				return d.Set("", "cloud", args[1], func(s *spec.Specification) { s.Cloud = spec.Cloud(args[1]) })
			})
		},
	}
}
