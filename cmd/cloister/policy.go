package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"cloister/internal/fault"
	"cloister/policy"
	"cloister/policy/cce"
	"cloister/policy/spec"
	"cloister/prep/tree"

	urfave "github.com/urfave/cli/v2"
)

// Names of the files that "policy generate" writes.
const (
	containerPolicyFile  = "container-policy.rego"
	keyReleasePolicyFile = "key-release-policy.json"
)

// policyCommand is "cloister policy": what a specification becomes for the
// platform and the vaults.
func policyCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "policy",
		Usage: "translate a specification into what the platform enforces",
		Subcommands: []*urfave.Command{
			policyGenerateCommand(), policyTestCommand(), policyExplainCommand(), policyDiffCommand(), policyVerifyCommand(),
			policyIndexCommand(),
		},
	}
}

func policyGenerateCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "generate",
		Usage:     "write " + containerPolicyFile + " and " + keyReleasePolicyFile + " for a specification",
		ArgsUsage: "SPEC",
		Flags: append(imageFlags(),
			&urfave.StringFlag{Name: "out", Usage: "the `DIR` to write to; made if it is not there"},
			&urfave.BoolFlag{Name: "force", Usage: "replace files that say something else"},
			jsonFlag(),
		),
		Action: action(func(c *urfave.Context, args []string) error {
			s, err := loadSpec(args[0])
			if err != nil {
				return err
			}
			in, err := inputsOf(c, s)
			if err != nil {
				return err
			}
			if in.Policies, err = readPolicies(args[0], s); err != nil {
				return err
			}
			t, err := policy.Translate(s, in)
			if err != nil {
				return err
			}
			files := []outFile{
				{filepath.Join(c.String("out"), containerPolicyFile), t.ContainerPolicy},
				{filepath.Join(c.String("out"), keyReleasePolicyFile), t.KeyRelease.Canonical()},
			}
			if err := writeAll(files, c.Bool("force")); err != nil {
				return err
			}
			return printTranslation(c, s, t, files)
		}, "--out", "SPEC"),
	}
}

type translationReport struct {
	Kind             spec.Kind    `json:"kind"`
	Specification    string       `json:"specification"`
	ContainerPolicy  policyReport `json:"containerPolicy"`
	KeyReleasePolicy policyReport `json:"keyReleasePolicy"`
}

type policyReport struct {
	File   string `json:"file"`
	Digest string `json:"digest"`
}

func printTranslation(c *urfave.Context, s spec.Specification, t policy.Translation, files []outFile) error {
	r := translationReport{
		Kind: s.Kind, Specification: t.Specification,
		ContainerPolicy:  policyReport{files[0].path, cce.Digest(t.ContainerPolicy)},
		KeyReleasePolicy: policyReport{files[1].path, t.KeyRelease.Digest()},
	}
	return printResult(c, r, func(stdout, _ io.Writer) {
		if s.Kind == spec.Simulated {
			fmt.Fprintln(stdout, "SIMULATED platform: these policies protect nothing")
		}
		fmt.Fprintf(stdout, "specification       %s\ncontainer policy    %s  %s\nkey release policy  %s  %s\n",
			r.Specification, r.ContainerPolicy.Digest, r.ContainerPolicy.File, r.KeyReleasePolicy.Digest, r.KeyReleasePolicy.File)
	})
}

type outFile struct {
	path string
	data []byte
}

// writeAll writes the files that are not there as they should be. Where one
// says something else and force is not given it writes none.
func writeAll(files []outFile, force bool) error {
	var changed []outFile
	for _, f := range files {
		old, err := os.ReadFile(f.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			changed = append(changed, f)
		case err != nil:
			return tree.Explain("reading", f.path, err)
		case bytes.Equal(old, f.data):
		case !force:
			return fault.Errorf(fault.Conflict, "look at the difference; --force replaces it", "%s is there and says something else", f.path)
		default:
			changed = append(changed, f)
		}
	}
	for _, f := range changed {
		if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
			return tree.Explain("making", filepath.Dir(f.path), err)
		}
		if err := replaceFile(f.path, f.data); err != nil {
			return err
		}
	}
	return nil
}
