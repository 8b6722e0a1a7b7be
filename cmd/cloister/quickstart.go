package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"cloister/docs"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// quickstartCommand is "cloister quickstart": the guide's collaboration, to try.
func quickstartCommand() *urfave.Command {
	return &urfave.Command{
		Name: "quickstart", Usage: "make a two-party collaboration for `cloister local` in the new folder DIR, and print its commands", ArgsUsage: "DIR",
		Description: "Writes the parties' homes, sample data and an application. The commands printed\n" +
			"are those of docs/guide.md, each with who runs it where: that page explains them.\n" +
			"Everything is SIMULATED, on this machine.",
		Action: action(quickstart, "DIR"),
	}
}

// plainPath is what the guide's commands can take without quotes.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9._/-]+$`)

func quickstart(c *urfave.Context, args []string) error {
	dir, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	if !plainPath.MatchString(dir) {
		return fault.Errorf(fault.Usage, "choose a folder whose path has letters, digits, dots, dashes and underscores only", "%q cannot be in the commands", dir)
	}
	steps, err := docs.Steps()
	if err != nil {
		return err
	}
	if err := makeCollaboration(dir, steps); err != nil {
		return err
	}
	return printSteps(c.App.Writer, dir, steps)
}

// makeCollaboration makes it beside its place and moves it there whole.
func makeCollaboration(dir string, steps []docs.Step) error {
	if _, err := os.Lstat(dir); err == nil {
		return fault.Errorf(fault.Conflict, "name a folder that is not there yet", "%s is already there", dir)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+"-")
	if err != nil {
		return fault.Errorf(fault.NotFound, "make the folder that it is to be in", "%w", err)
	}
	defer os.RemoveAll(tmp)
	// The application is another user and must reach its mounts.
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	for _, f := range docs.Folders {
		if err := os.Mkdir(filepath.Join(tmp, f), 0o755); err != nil {
			return err
		}
	}
	for _, s := range steps {
		if err := makePart(tmp, s); err != nil {
			return err
		}
	}
	return os.Rename(tmp, dir)
}

// makePart makes a step's file, or the home that it is run in.
func makePart(dir string, s docs.Step) error {
	if s.File == "" {
		return os.MkdirAll(filepath.Join(dir, s.Party), 0o700)
	}
	path := filepath.Join(dir, filepath.FromSlash(s.File))
	home, _, _ := strings.Cut(s.File, "/")
	if err := os.MkdirAll(filepath.Join(dir, home), 0o700); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(s.Text), 0o644)
}

func printSteps(w io.Writer, dir string, steps []docs.Step) error {
	section := ""
	for _, s := range steps {
		if s.Party == "" {
			continue
		}
		if s.Section != section {
			section = s.Section
			if _, err := fmt.Fprintf(w, "\n# ---- %s\n", section); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(w, "\n# the %s:\ncd %s\n%s", s.Party, filepath.Join(dir, s.Party), s.Text); err != nil {
			return err
		}
	}
	return nil
}
