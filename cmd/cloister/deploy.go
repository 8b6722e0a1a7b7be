package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"cloister/policy/cce"
	"cloister/policy/spec"
	"cloister/policy/template"
	"cloister/prep/tree"

	urfave "github.com/urfave/cli/v2"
)

// deployCommand is "cloister deploy": what hands a specification to the
// platform.
func deployCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "deploy",
		Usage:       "write what deploys a clean room, verify it, and start, look at and end the room",
		Subcommands: []*urfave.Command{deployTemplateCommand(), deployVerifyCommand(), deployUpCommand(), deployStatusCommand(), deployLogsCommand(), deployDownCommand()},
	}
}

func deployTemplateCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "template",
		Usage:     "write " + template.ARM + " (kind aci, and simulated) or " + template.Kubernetes + " (kind aks) for a specification",
		ArgsUsage: "SPEC",
		Description: "The container policy is in it. Nothing in it is secret: credentials are named.\n" +
			"Deploy it as it is: what is changed by hand the platform refuses to start, and\n" +
			"`cloister deploy verify` names.",
		Flags: append(imageFlags(),
			&urfave.StringFlag{Name: "out", Usage: "the `DIR` to write to; made if it is not there"},
			&urfave.BoolFlag{Name: "force", Usage: "replace a file that says something else"},
			jsonFlag(),
		),
		Action: action(func(c *urfave.Context, args []string) error {
			s, t, err := templateOf(c, args[0])
			if err != nil {
				return err
			}
			file := filepath.Join(c.String("out"), t.Name)
			if err := writeAll([]outFile{{file, t.Text}}, c.Bool("force")); err != nil {
				return err
			}
			return printTemplate(c, s, t, file)
		}, "--out", "SPEC"),
	}
}

func deployVerifyCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "verify",
		Usage:       "make the template again from specification and images, on this machine, and say what was changed in DIR's",
		ArgsUsage:   "DIR SPEC",
		Description: "Compares what it says, not how it is spelled; the container policy in it must be\nequal to the byte.",
		Flags:       append(imageFlags(), jsonFlag()),
		Action: action(func(c *urfave.Context, args []string) error {
			s, t, err := templateOf(c, args[1])
			if err != nil {
				return err
			}
			file := filepath.Join(args[0], t.Name)
			text, err := os.ReadFile(file)
			if err != nil {
				return tree.Explain("reading", file, err)
			}
			if err := t.Verify(text); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			return printTemplate(c, s, t, file)
		}, "DIR", "SPEC"),
	}
}

func templateOf(c *urfave.Context, path string) (spec.Specification, template.Template, error) {
	s, err := loadSpec(path)
	if err != nil {
		return s, template.Template{}, err
	}
	if s.Kind == spec.CVM {
		_, err := template.Generate(s, cce.Inputs{}) // which says why not
		return s, template.Template{}, err
	}
	in, err := inputsOf(c, s)
	if err != nil {
		return s, template.Template{}, err
	}
	if in.Policies, err = readPolicies(path, s); err != nil {
		return s, template.Template{}, err
	}
	t, err := template.Generate(s, in)
	return s, t, err
}

type templateReport struct {
	Kind            spec.Kind `json:"kind"`
	File            string    `json:"file"`
	ContainerPolicy string    `json:"containerPolicy"` // digest: HOST_DATA
}

func printTemplate(c *urfave.Context, s spec.Specification, t template.Template, file string) error {
	r := templateReport{s.Kind, file, cce.Digest(t.ContainerPolicy)}
	return printResult(c, r, func(stdout, _ io.Writer) {
		fmt.Fprintf(stdout, "template          %s\ncontainer policy  %s\n", r.File, r.ContainerPolicy)
	})
}
