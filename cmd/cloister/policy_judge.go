package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"cloister/internal/fault"
	"cloister/policy"
	"cloister/policy/cce"
	"cloister/policy/framework"
	"cloister/policy/release"
	"cloister/prep/tree"

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

// readPolicyFile returns a container policy's text, as it is or out of base64.
func readPolicyFile(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, tree.Explain("reading", path, err)
	}
	if text, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(raw))); err == nil && bytes.Contains(text, []byte("package ")) {
		return text, nil
	}
	return raw, nil
}

// judged is a policy file of either kind.
type judged struct {
	release   *release.Policy
	mutable   *bool
	container cce.Policy
}

// readJudged tells the two kinds apart: JSON is a release policy, or a key of a
// vault with one.
func readJudged(c *urfave.Context, path string) (j judged, err error) {
	text, err := readPolicyFile(path)
	if err != nil {
		return j, err
	}
	if !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		j.container, err = framework.Read(c.Context, text)
		return j, explainPath(path, err)
	}
	if text, j.mutable, err = ofKey(text); err != nil {
		return j, explainPath(path, err)
	}
	p, err := release.Parse(text)
	j.release = &p
	return j, explainPath(path, err)
}

func explainPath(path string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// ofKey takes the release policy out of a key as a vault's API, or the az
// program, shows it. Other JSON is returned as it is.
func ofKey(text []byte) ([]byte, *bool, error) {
	type held struct {
		Data          string `json:"data"`
		EncodedPolicy string `json:"encodedPolicy"`
		Immutable     bool   `json:"immutable"`
	}
	var key struct {
		API *held `json:"release_policy"`
		AZ  *held `json:"releasePolicy"`
	}
	if err := json.Unmarshal(text, &key); err != nil || key.API == nil && key.AZ == nil {
		return text, nil, nil // Parse says what is wrong with it
	}
	h := key.API
	if h == nil {
		h = key.AZ
	}
	encoded := strings.TrimRight(h.Data+h.EncodedPolicy, "=")
	raw, err := base64.RawURLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(encoded))
	if err != nil {
		return nil, nil, fault.Errorf(fault.Usage, "show the key again", "its release policy is not base64: %w", err)
	}
	mutable := !h.Immutable
	return raw, &mutable, nil
}

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
