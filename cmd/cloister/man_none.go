//go:build urfave_cli_no_docs

package main

import urfave "github.com/urfave/cli/v2"

func extraCommands() []*urfave.Command { return nil }
