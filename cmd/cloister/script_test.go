package main

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"cloister/internal/cli"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets this test binary also be the program "cloister", which the
// scripts run as a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"cloister": func() { os.Exit(cli.Main(newApp(), os.Args)) },
	})
}

// TestScripts runs every script of testdata/script. Beside testscript's own
// commands they have:
//
//	exits CODE PROGRAM [ARG...]   run it and demand this exit code; its output
//	                              is what stdout and stderr look at next
func TestScripts(t *testing.T) {
	const dir = "testdata/script"
	scripts, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts in %s (%v): the test looked at nothing", dir, err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := err.(interface{ ExitCode() int })
		if !ok {
			ts.Fatalf("running %s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s: exit code %d, want %d", args[1], got, want)
	}
}
