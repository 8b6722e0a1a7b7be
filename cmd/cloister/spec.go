package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/policy/spec"
	"cloister/policy/spec/yaml"
	"cloister/prep/tree"

	urfave "github.com/urfave/cli/v2"
)

// specCommand is "cloister spec": the specification, written and checked.
func specCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "spec",
		Usage: "write and check a clean room specification",
		Subcommands: []*urfave.Command{
			specInitCommand(), specAddCommand(), specSetCommand(),
			specValidateCommand(), specMergeCommand(), specShowCommand(), specDigestCommand(), specSchemaCommand(),
		},
	}
}

func specInitCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "init",
		Usage:     "begin a specification in a new FILE",
		ArgsUsage: "FILE",
		Flags: []urfave.Flag{
			&urfave.StringFlag{Name: "name", Usage: "the clean room's `NAME`"},
			&urfave.StringFlag{Name: "kind", Usage: "where it runs: aci, aks, cvm or simulated", Value: string(spec.ACI)},
		},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, []string{"name"}, "FILE")
			if err != nil {
				return err
			}
			text := yaml.Init(c.String("name"), spec.Kind(c.String("kind")))
			doc, err := yaml.Parse(text)
			if err != nil {
				return err
			}
			if err := newProblems(nil, doc.Problems()).Err(); err != nil {
				return err
			}
			return createFile(args[0], text, 0o644)
		},
	}
}

func specValidateCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "validate",
		Usage:     "check a specification and say everything that is wrong",
		ArgsUsage: "FILE",
		Flags:     []urfave.Flag{jsonFlag()},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, nil, "FILE")
			if err != nil {
				return err
			}
			s, err := checkSpec(args[0])
			if c.Bool("json") {
				return errors.Join(printValidation(c, s, err), err)
			}
			if err != nil {
				return err
			}
			digest, err := s.Digest()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.App.Writer, "valid: %s, kind %s, %s\n", s.Name, s.Kind, digest)
			return err
		},
	}
}

func printValidation(c *urfave.Context, s spec.Specification, err error) error {
	result := struct {
		Valid    bool          `json:"valid"`
		Digest   string        `json:"digest,omitempty"`
		Problems spec.Problems `json:"problems"`
	}{Valid: err == nil, Problems: spec.Problems{}}
	if err == nil {
		if result.Digest, err = s.Digest(); err != nil {
			return err
		}
	}
	errors.As(err, &result.Problems)
	return json.NewEncoder(c.App.Writer).Encode(result)
}

func specShowCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "show",
		Usage:     "print a specification in one layout, or in the canonical form that the runtime is given",
		ArgsUsage: "FILE",
		Flags:     []urfave.Flag{&urfave.BoolFlag{Name: "json", Usage: "the canonical form: exactly the bytes that the digest is of"}},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, nil, "FILE")
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return showCanonical(c, args[0])
			}
			doc, err := readSpec(args[0])
			if err != nil {
				return err
			}
			for _, p := range doc.Spec.Parties {
				if fingerprint, err := p.Fingerprint(); err == nil {
					fmt.Fprintf(c.App.Writer, "# %s signs with %s\n", p.Name, fingerprint)
				}
			}
			_, err = c.App.Writer.Write(yaml.Encode(doc.Spec))
			return err
		},
	}
}

func showCanonical(c *urfave.Context, path string) error {
	s, err := loadSpec(path)
	if err != nil {
		return err
	}
	canonical, err := s.Canonical()
	if err != nil {
		return err
	}
	_, err = c.App.Writer.Write(canonical)
	return err
}

func specDigestCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "digest",
		Usage:       "print the digest of a valid specification, whatever its layout",
		ArgsUsage:   "FILE",
		Description: "JSON: digest.",
		Flags:       []urfave.Flag{jsonFlag()},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, nil, "FILE")
			if err != nil {
				return err
			}
			s, err := loadSpec(args[0])
			if err != nil {
				return err
			}
			digest, err := s.Digest()
			if err != nil {
				return err
			}
			return printResult(c, map[string]string{"digest": digest}, func(stdout, _ io.Writer) { fmt.Fprintln(stdout, digest) })
		},
	}
}

func readSpec(path string) (*yaml.Document, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Errorf(fault.NotFound, "begin one with cloister spec init", "specification %s is not there", path)
	}
	if err != nil {
		return nil, tree.Explain("reading specification", path, err)
	}
	doc, err := yaml.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return doc, nil
}

// checkSpec is loadSpec with the policies that the specification pins.
func checkSpec(path string) (spec.Specification, error) {
	doc, err := readSpec(path)
	if err != nil {
		return spec.Specification{}, err
	}
	if err := append(doc.Problems(), policyProblems(path, doc)...).Err(); err != nil {
		return spec.Specification{}, fmt.Errorf("%s: %w", path, err)
	}
	return doc.Spec, nil
}

// loadSpec reads a specification that must be valid.
func loadSpec(path string) (spec.Specification, error) {
	doc, err := readSpec(path)
	if err != nil {
		return spec.Specification{}, err
	}
	if err := doc.Problems().Err(); err != nil {
		return spec.Specification{}, fmt.Errorf("%s: %w", path, err)
	}
	return doc.Spec, nil
}

// editSpec changes a specification's file. It refuses a change that makes a new
// problem other than that something is still missing.
func editSpec(path string, edit func(*yaml.Document) (*yaml.Document, error)) error {
	before, after, err := edited(path, edit)
	if err != nil {
		return err
	}
	return saveSpec(path, after, newProblems(before.Problems(), after.Problems()))
}

// editSpecAbout is editSpec for a change that others must follow: new problems
// refuse it only where they are about the fields named; the rest is shown.
func editSpecAbout(c *urfave.Context, path string, fields []string, edit func(*yaml.Document) (*yaml.Document, error)) error {
	before, after, err := edited(path, edit)
	if err != nil {
		return err
	}
	var refuse spec.Problems
	for _, p := range newProblems(before.Problems(), after.Problems()) {
		field, _, _ := strings.Cut(p.Path, ".")
		if slices.Contains(fields, field) {
			refuse = append(refuse, p)
			continue
		}
		fmt.Fprintf(c.App.ErrWriter, "now to be changed too: %s\n", cli.Printable(p.String()))
	}
	return saveSpec(path, after, refuse)
}

func edited(path string, edit func(*yaml.Document) (*yaml.Document, error)) (before, after *yaml.Document, err error) {
	if before, err = readSpec(path); err != nil {
		return nil, nil, err
	}
	if after, err = edit(before); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return before, after, nil
}

func saveSpec(path string, doc *yaml.Document, refuse spec.Problems) error {
	if err := refuse.Err(); err != nil {
		return fmt.Errorf("%s stays as it is: %w", path, err)
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	return replaceFile(target, doc.Text())
}

func newProblems(before, after spec.Problems) spec.Problems {
	return slices.DeleteFunc(after, func(p spec.Problem) bool {
		return p.Missing || slices.ContainsFunc(before, func(old spec.Problem) bool { return old.Path == p.Path && old.Reason == p.Reason })
	})
}

// anyOrder returns the arguments, which must be as many as names, when flags
// may also stand after them, and refuses a required flag without a value.
func anyOrder(c *urfave.Context, required []string, names ...string) ([]string, error) {
	args, err := cli.AnyOrder(c, names...)
	if err != nil {
		return nil, err
	}
	return args, cli.Required(c, required...)
}
