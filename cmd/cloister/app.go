package main

import (
	"fmt"
	"io"

	"cloister/internal/fault"
	"cloister/policy/image"

	urfave "github.com/urfave/cli/v2"
)

// appCommand is "cloister app": the application's image.
func appCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "app",
		Usage:       "publish an application's image",
		Subcommands: []*urfave.Command{appPublishCommand()},
	}
}

func appPublishCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "publish",
		Usage:     "push an image to a registry; print its digest, what the specification needs of it, and what the platform would refuse",
		ArgsUsage: "SOURCE REPOSITORY",
		Description: "SOURCE is oci:DIR, an OCI image layout, or docker-archive:FILE, as docker save\n" +
			"writes it. Credentials are docker's and podman's.",
		Flags:  []urfave.Flag{&urfave.StringFlag{Name: "cache", Value: string(image.DefaultCache()), Usage: "remember layers' hashes in `DIR`; '' does not"}, jsonFlag()},
		Action: action(appPublish, "SOURCE", "REPOSITORY"),
	}
}

type published struct {
	Reference string   `json:"reference"`
	Layers    []string `json:"layers,omitempty"`
	Command   []string `json:"command,omitempty"`
	Warnings  []string `json:"warnings"`
}

func appPublish(c *urfave.Context, args []string) error {
	transport, err := registryTransport(c)
	if err != nil {
		return err
	}
	img, err := image.Publish(c.Context, args[1], image.Source{Local: args[0], Transport: transport})
	if err != nil {
		return err
	}
	p := published{Reference: img.Reference, Command: append(append([]string{}, img.Config.Entrypoint...), img.Config.Cmd...), Warnings: []string{}}
	if p.Layers, err = img.Roots(c.Context, image.Cache(c.String("cache"))); err != nil {
		if fault.KindOf(err) != fault.Refused {
			return fmt.Errorf("the image is published as %s; hashing its layers: %w", img.Reference, err)
		}
		p.Warnings = append(p.Warnings, "the platform would refuse it: "+err.Error())
	}
	return printResult(c, p, func(stdout, stderr io.Writer) {
		fmt.Fprintf(stdout, "%s\n\napplication:\n  image:\n    reference: %s\n", p.Reference, p.Reference)
		if len(p.Command) > 0 {
			fmt.Fprintln(stdout, "  command: # what the image starts by itself; the program's path must be absolute")
			for _, arg := range p.Command {
				fmt.Fprintf(stdout, "    - %q\n", arg)
			}
		}
		for _, w := range p.Warnings {
			fmt.Fprintln(stderr, "warning:", w)
		}
	})
}
