package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"cloister/docs"
	"cloister/docs/walk"
)

// guided carries out docs/guide.md in the folder that quickstart makes of it: two
// parties and a provider, from nothing to a decrypted result.
func guided(ctx context.Context, bin string) (err error) {
	if bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	steps, err := docs.Steps()
	if err != nil {
		return err
	}
	parent, err := os.MkdirTemp("", "cloister-guide-")
	if err != nil {
		return err
	}
	dir := filepath.Join(parent, "study")
	defer func() { err = errors.Join(err, walk.Close(dir), os.RemoveAll(parent)) }()
	// The application is another user and must reach its mounts.
	if err := os.Chmod(parent, 0o755); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, filepath.Join(bin, "cloister"), "quickstart", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("cloister quickstart: %w\n%s", err, out)
	}
	fmt.Println("The guide, docs/guide.md, as `cloister quickstart` prints it")
	section := ""
	return walk.Walk(ctx, bin, dir, steps, func(s docs.Step, out string, took time.Duration) {
		if s.Section != section {
			section = s.Section
			fmt.Printf("\n== %s\n", section)
		}
		told(s, out, took)
	})
}

// told shows a block, and what it printed where the guide says what that is.
func told(s docs.Step, out string, took time.Duration) {
	fmt.Printf("%8.0f ms  the %s\n", float64(took.Microseconds())/1000, s.Party)
	for line := range strings.Lines(s.Text) {
		fmt.Print("             ", line)
	}
	if s.Output == "" {
		return
	}
	for line := range strings.Lines(out) {
		fmt.Printf("           > %.120s\n", strings.TrimRight(line, "\n"))
	}
}
