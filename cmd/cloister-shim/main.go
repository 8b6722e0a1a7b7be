//go:build linux

// Command cloister-shim is the first process of the application's container
// where the runtime is in another: it starts the application on this run's
// mounts, and on nothing else. Package shim has its life.
//
// It is part of what is measured, and small: standard library, the mount table's
// reader, and what the runtime supervises an application with.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"cloister/enclave/launch"
	"cloister/enclave/sidecar/shim"
	"cloister/internal/fault"
)

func main() {
	launch.Init()
	os.Exit(run(os.Args[1:]))
}

// Exit codes: the application's, once its run is done, and otherwise those of
// the runtime's table.
const (
	exitInternal   = 1
	exitUsage      = 2
	exitNotFound   = 3
	exitRefused    = 5
	exitIncomplete = 8
)

func run(args []string) int {
	c, err := parse(args)
	exit := 0
	if err == nil {
		exit, err = shim.Run(c)
	}
	if err == nil {
		return exit
	}
	fmt.Fprintln(os.Stderr, "cloister-shim:", err)
	for _, hint := range fault.Hints(err) {
		fmt.Fprintln(os.Stderr, "  hint:", hint)
	}
	return exitCode(err)
}

func exitCode(err error) int {
	switch fault.KindOf(err) {
	case fault.Usage:
		return exitUsage
	case fault.NotFound:
		return exitNotFound
	case fault.Refused:
		return exitRefused
	case fault.Incomplete:
		return exitIncomplete
	default:
		return exitInternal
	}
}

const usage = "cloister-shim --share DIR --specification-digest DIGEST --mount DIR... [--env NAME=VALUE]... [--workdir DIR] [--pod-network] -- PROGRAM [ARG...]"

// parse reads the measured command line.
func parse(args []string) (c shim.Config, err error) {
	flags := flag.NewFlagSet("cloister-shim", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&c.Share, "share", "", "")
	flags.StringVar(&c.Specification, "specification-digest", "", "")
	flags.StringVar(&c.WorkingDir, "workdir", "/", "")
	flags.BoolVar(&c.PodNetwork, "pod-network", false, "")
	flags.Func("mount", "", list(&c.Mounts))
	flags.Func("env", "", list(&c.Environment))
	err = flags.Parse(args)
	c.Command, c.Log = flags.Args(), os.Stderr
	if err == nil {
		err = complete(c)
	}
	if err != nil {
		return c, fault.Errorf(fault.Usage, usage, "the command line is wrong: %w", err)
	}
	return c, nil
}

func list(to *[]string) func(string) error {
	return func(s string) error {
		*to = append(*to, s)
		return nil
	}
}

// complete is what must hold before anything is waited for.
func complete(c shim.Config) error {
	switch {
	case c.Specification == "":
		return errors.New("--specification-digest is missing")
	case len(c.Mounts) == 0:
		return errors.New("--mount is missing: there is no volume to wait for")
	case len(c.Command) == 0:
		return errors.New("there is no program")
	}
	for _, p := range append([]string{c.Share, c.WorkingDir, c.Command[0]}, c.Mounts...) {
		if !path.IsAbs(p) || path.Clean(p) != p {
			return fmt.Errorf("%q is not a clean absolute path", p)
		}
	}
	for _, v := range c.Environment {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
			return fmt.Errorf("--env %.80q is not NAME=VALUE", v)
		}
	}
	return nil
}
