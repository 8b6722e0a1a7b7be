package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/policy/spec"
	"cloister/prep/deploy"

	urfave "github.com/urfave/cli/v2"
)

func deployLogsCommand() *urfave.Command {
	return &urfave.Command{
		Name: "logs", Usage: "print what the platform has of the containers' output", ArgsUsage: "DIR SPEC",
		Description: "Of a confidential container the platform has nothing, unless its policy admits it:\n" +
			"what an application says is for those who consent to logging.\n" + placeHelp,
		Flags: append(placeFlags(), text("container", "only of the container `NAME`"),
			&urfave.IntFlag{Name: "tail", Usage: "the last `N` lines of each container; 0 is all that is kept"}),
		Action: action(withTimeout(func(ctx context.Context, c *urfave.Context, args []string) error {
			if c.Int("tail") < 0 {
				return fault.Errorf(fault.Usage, "give a number from 0", "--tail is %d", c.Int("tail"))
			}
			_, room, err := deployed(c, args)
			if err != nil {
				return err
			}
			var said bytes.Buffer
			if err := room.Logs(ctx, c.String("container"), c.Int("tail"), &said); err != nil {
				return err
			}
			if said.Len() == 0 {
				fmt.Fprintln(c.App.ErrWriter, "the platform has nothing of what its containers say")
			}
			_, err = io.WriteString(c.App.Writer, cli.Printable(said.String()))
			return err
		}), "DIR", "SPEC"),
	}
}

func deployDownCommand() *urfave.Command {
	return &urfave.Command{
		Name: "down", Usage: "end the clean room and delete what `deploy up` made; say what is left", ArgsUsage: "DIR SPEC",
		Description: "A run under way is asked to end, and seals what was written. Again, it changes\n" +
			"nothing. Identities, roles, keys, data and the ledger's record stay: `cloister\n" +
			"provision destroy` takes those of a volume.\n" + placeHelp +
			"\nJSON: units (as of up; changed says what was deleted now), left (words).",
		Flags: append(placeFlags(), &urfave.BoolFlag{Name: "all", Usage: "also what another template made under these names"}, jsonFlag()),
		Action: action(withTimeout(func(ctx context.Context, c *urfave.Context, args []string) error {
			s, room, err := deployed(c, args)
			if err != nil {
				return err
			}
			units, err := room.Down(ctx, c.Bool("all"))
			d := takenDown{Units: units, Left: leftOf(s)}
			return first(err, printResult(c, d, d.print))
		}), "DIR", "SPEC"),
	}
}

type takenDown struct {
	Units []deploy.Unit `json:"units"`
	Left  []string      `json:"left"`
}

func (d takenDown) print(stdout, _ io.Writer) {
	printUnits(stdout, d.Units, func(u deploy.Unit) string {
		if u.State == deploy.Missing {
			return map[bool]string{true: "deleted", false: "not there"}[u.Changed]
		}
		return "left"
	})
	for _, l := range d.Left {
		fmt.Fprintf(stdout, "%-10s %s\n", "left", cli.Printable(l))
	}
}

// leftOf is what a deployment used and is not its own.
func leftOf(s spec.Specification) []string {
	left := []string{}
	for _, i := range s.Identities {
		left = append(left, strings.TrimSpace("identity "+i.Name+" "+i.ResourceID))
	}
	if s.Deployment != nil && s.Deployment.Subnet != "" {
		left = append(left, "subnet "+s.Deployment.Subnet)
	}
	for _, v := range s.Code {
		left = append(left, volumeLeft(v))
	}
	for _, v := range s.DataSources {
		left = append(left, volumeLeft(v))
	}
	for _, v := range s.Sinks() {
		left = append(left, volumeLeft(v.Source()))
	}
	return left
}

func volumeLeft(v spec.Source) string {
	return fmt.Sprintf("keys and data of volume %s, of %s, at %s", v.Name, v.Party, v.Store)
}
