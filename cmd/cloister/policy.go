package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"cloister/internal/fault"
	"cloister/policy"
	"cloister/policy/cce"
	"cloister/policy/spec"

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
		Name:        "policy",
		Usage:       "translate a specification into what the platform enforces",
		Subcommands: []*urfave.Command{policyGenerateCommand()},
	}
}

func policyGenerateCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "generate",
		Usage:     "write " + containerPolicyFile + " and " + keyReleasePolicyFile + " for a specification",
		ArgsUsage: "SPEC",
		Flags: []urfave.Flag{
			&urfave.StringFlag{Name: "out", Usage: "the `DIR` to write to; made if it is not there"},
			&urfave.BoolFlag{Name: "force", Usage: "replace files that say something else"},
			jsonFlag(),
		},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, []string{"out"}, "SPEC")
			if err != nil {
				return err
			}
			s, err := loadSpec(args[0])
			if err != nil {
				return err
			}
			t, err := policy.Translate(s)
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
		},
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
	if c.Bool("json") {
		return json.NewEncoder(c.App.Writer).Encode(r)
	}
	if s.Kind == spec.Simulated {
		fmt.Fprintln(c.App.Writer, "SIMULATED platform: these policies protect nothing")
	}
	_, err := fmt.Fprintf(c.App.Writer, "specification       %s\ncontainer policy    %s  %s\nkey release policy  %s  %s\n",
		r.Specification, r.ContainerPolicy.Digest, r.ContainerPolicy.File, r.KeyReleasePolicy.Digest, r.KeyReleasePolicy.File)
	return err
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
			return err
		case bytes.Equal(old, f.data):
		case !force:
			return fault.Errorf(fault.Conflict, "look at the difference; --force replaces it", "%s is there and says something else", f.path)
		default:
			changed = append(changed, f)
		}
	}
	for _, f := range changed {
		if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
			return err
		}
		if err := replaceFile(f.path, f.data); err != nil {
			return err
		}
	}
	return nil
}

// replaceFile puts data in a file at once: a reader, and a crash, sees the old
// bytes or the new ones. An existing file's permissions stay.
func replaceFile(path string, data []byte) error {
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".cloister-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// createFile writes a new file and refuses to touch one that is there.
func createFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fault.Errorf(fault.Conflict, "choose another name, or remove it first", "%s is already there", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, errors.Join(err, os.Remove(path)))
	}
	return nil
}
