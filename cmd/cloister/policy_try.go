package main

import (
	"fmt"
	"io"

	"cloister/policy/framework"

	urfave "github.com/urfave/cli/v2"
)

// policyTestCommand is "cloister policy test".
func policyTestCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "test",
		Usage:     "ask the platform's own enforcement framework, in each generation, what a container policy admits",
		ArgsUsage: "POLICY",
		Description: "Each container of the policy must be admitted, and every mutation of it in an\n" +
			"argument, a variable, a layer, a mount, the user, a capability or a privilege\n" +
			"refused. What the policy lets in by its own words is named.",
		Flags: []urfave.Flag{jsonFlag()},
		Action: action(func(c *urfave.Context, args []string) error {
			text, err := readPolicyFile(args[0])
			if err != nil {
				return err
			}
			outcomes, err := framework.Try(c.Context, text)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			err = printResult(c, outcomes, func(stdout, _ io.Writer) {
				for _, o := range outcomes {
					printOutcome(stdout, o)
				}
			})
			if err != nil {
				return err
			}
			return framework.Err(outcomes)
		}, "POLICY"),
	}
}

func printOutcome(w io.Writer, o framework.Outcome) {
	what := "admitted"
	if o.Refused != "" {
		what = "REFUSED at " + o.Refused
	}
	refused := o.Tried - len(o.Dropped) - len(o.Allowed) - len(o.Admitted)
	fmt.Fprintf(w, "framework %s  %s: %s; of %d mutations %d refused\n", o.Framework, o.Container, what, o.Tried, refused)
	for _, list := range []struct {
		what  string
		names []string
	}{{"dropped", o.Dropped}, {"allowed by the policy", o.Allowed}, {"ADMITTED", o.Admitted}, {"not tried, no example of", o.Unknown}} {
		for _, name := range list.names {
			fmt.Fprintf(w, "  %s: %s\n", list.what, name)
		}
	}
}
