package main

import (
	"embed"
	"io"

	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// completions are the shells' halves; the other half is the command line
// library's, which answers --generate-bash-completion.
//
//go:embed completion
var completions embed.FS

func completionCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "completion",
		Usage:       "print what makes a shell complete cloister's commands and flags",
		ArgsUsage:   "bash|zsh",
		Description: "For this session:  eval \"$(cloister completion bash)\"",
		Action:      action(completion, "bash|zsh"),
	}
}

func completion(c *urfave.Context, args []string) error {
	script, err := completions.ReadFile("completion/" + args[0])
	if err != nil {
		return fault.Errorf(fault.Usage, "name bash or zsh", "there is no completion for %q", args[0])
	}
	_, err = io.WriteString(c.App.Writer, string(script))
	return err
}
