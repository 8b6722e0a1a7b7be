package main

import (
	"bytes"
	"fmt"
	"io"

	"cloister/internal/fault"
	"cloister/policy"
	"cloister/policy/cce"
	"cloister/policy/framework"
	"cloister/policy/release"

	urfave "github.com/urfave/cli/v2"
)

// policyDiffCommand is "cloister policy diff".
func policyDiffCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "diff",
		Usage:     "compare two policies of one kind by what they mean",
		ArgsUsage: "FIRST SECOND",
		Flags:     []urfave.Flag{jsonFlag()},
		Action: action(func(c *urfave.Context, args []string) error {
			first, err := readJudged(c, args[0])
			if err != nil {
				return err
			}
			second, err := readJudged(c, args[1])
			if err != nil {
				return err
			}
			list, err := diff(first, second)
			if err != nil {
				return err
			}
			return reportDifferences(c, list, args[0], args[1])
		}, "FIRST", "SECOND"),
	}
}

func diff(first, second judged) ([]release.Difference, error) {
	switch {
	case (first.release == nil) != (second.release == nil):
		return nil, fault.Errorf(fault.Usage, "compare two of a kind", "one is a key release policy, the other a container policy")
	case first.release == nil:
		return cce.Diff(first.container, second.container), nil
	default:
		return release.Diff(*first.release, *second.release)
	}
}

// reportDifferences prints them, and is an error of kind fault.Refused if there
// are any.
func reportDifferences(c *urfave.Context, list []release.Difference, first, second string) error {
	if list == nil {
		list = []release.Difference{}
	}
	err := printResult(c, list, func(w, _ io.Writer) {
		names := map[string]string{"first": first, "second": second}
		for _, d := range list {
			fmt.Fprintf(w, "only %s: %s\n", names[d.OnlyIn], d.What)
		}
		if len(list) == 0 {
			fmt.Fprintln(w, "they mean the same")
		}
	})
	if err == nil && len(list) > 0 {
		err = fault.Errorf(fault.Refused, "look at each difference", "%s and %s differ in %d things", first, second, len(list))
	}
	return err
}

// policyVerifyCommand is "cloister policy verify".
func policyVerifyCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "verify",
		Usage:     "make the policies again from specification and images, on this machine, and say whether POLICY is one of them",
		ArgsUsage: "SPEC POLICY",
		Description: "A container policy must be equal to the byte, since its digest is what is\n" +
			"measured; a key release policy in what it means, since vaults rewrite them.",
		Flags: append(imageFlags(), jsonFlag()),
		Action: action(func(c *urfave.Context, args []string) error {
			t, err := translated(c, args[0])
			if err != nil {
				return err
			}
			list, err := t.differences(c, args[1])
			if err != nil {
				return err
			}
			return reportDifferences(c, list, args[1], args[0])
		}, "SPEC", "POLICY"),
	}
}

type translation struct{ policy.Translation }

func translated(c *urfave.Context, path string) (translation, error) {
	s, err := loadSpec(path)
	if err != nil {
		return translation{}, err
	}
	in, err := inputsOf(c, s)
	if err != nil {
		return translation{}, err
	}
	t, err := policy.Translate(s, in)
	return translation{t}, err
}

// differences are between a policy file and what was made here. The simulated
// platform's policy is looked at as bytes alone: no framework reads it.
func (t translation) differences(c *urfave.Context, file string) ([]release.Difference, error) {
	text, err := readPolicyFile(file)
	if err != nil || bytes.Equal(text, t.ContainerPolicy) {
		return nil, err
	}
	have, err := readJudged(c, file)
	if err != nil {
		return nil, err
	}
	if have.release != nil {
		return release.Diff(*have.release, t.KeyRelease)
	}
	want, err := framework.Read(c.Context, t.ContainerPolicy)
	if err != nil {
		return nil, fmt.Errorf("the policy of this specification: %w", err)
	}
	list := cce.Diff(have.container, want)
	if list == nil {
		list = append(list, release.Difference{OnlyIn: "first", What: "its spelling, which is measured too: digest " + cce.Digest(text) + ", not " + cce.Digest(t.ContainerPolicy)})
	}
	return list, nil
}
