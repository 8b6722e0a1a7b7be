package main

import (
	"fmt"
	"io"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/cce"
	"cloister/policy/release"

	urfave "github.com/urfave/cli/v2"
)

// policyExplainCommand is "cloister policy explain".
func policyExplainCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "explain",
		Usage:     "say in words who could get a key, or what a container policy lets a host start, and what is weak in it",
		ArgsUsage: "POLICY",
		Description: "POLICY is a key release policy (JSON), a key as its vault shows it, or a\n" +
			"container policy (Rego, or that in base64). With --strict a warning is a refusal.",
		Flags: []urfave.Flag{&urfave.BoolFlag{Name: "strict", Usage: "exit with the code of a refusal if there is a warning"}, jsonFlag()},
		Action: action(func(c *urfave.Context, args []string) error {
			j, err := readJudged(c, args[0])
			if err != nil {
				return err
			}
			warnings, err := j.explain(c)
			if err != nil {
				return explainPath(args[0], err)
			}
			if len(warnings) > 0 && c.Bool("strict") {
				return fault.Errorf(fault.Refused, "do not agree to it before each is understood", "%s has %d warnings", args[0], len(warnings))
			}
			return nil
		}, "POLICY"),
	}
}

func (j judged) explain(c *urfave.Context) ([]release.Warning, error) {
	if j.release == nil {
		e := cce.Explain(j.container)
		return e.Warnings, printResult(c, e, func(w, _ io.Writer) {
			printLists(w, "the host may start", e.Containers)
			printLists(w, "and whatever is signed as", [][]string{e.Others})
			printWarnings(w, e.Warnings)
		})
	}
	e, err := release.Explain(*j.release, j.mutable)
	if err != nil {
		return nil, err
	}
	return e.Warnings, printResult(c, e, func(w, _ io.Writer) {
		printLists(w, "the key goes to whoever shows that", e.Ways)
		printWarnings(w, e.Warnings)
		if j.mutable == nil {
			fmt.Fprintln(w, "not known here: whether the policy is immutable; the key, as its vault shows it, says so")
		}
	})
}

func printLists(w io.Writer, head string, lists [][]string) {
	for i, list := range lists {
		if len(list) == 0 {
			continue
		}
		if i > 0 {
			fmt.Fprint(w, "or ")
		}
		fmt.Fprintf(w, "%s\n  %s\n", head, strings.Join(list, "\n  "))
	}
}

func printWarnings(w io.Writer, warnings []release.Warning) {
	for _, x := range warnings {
		fmt.Fprintf(w, "WARNING %s: %s\n", x.Name, x.Text)
	}
}
