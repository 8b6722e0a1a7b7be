// Package cli is the one way out of every binary.
//
// Life of a run: main calls Main with its application; Main runs it under a
// context that SIGINT and SIGTERM cancel, prints an error as a fact followed by
// its hints on standard error, and returns the exit code of the table below.
// Only main calls os.Exit, once.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"cloister/internal/fault"

	"github.com/urfave/cli/v2"
)

// Exit codes. The table is part of the command line's interface: a script may
// branch on it, so a code never changes its meaning.
const (
	ExitOK          = 0
	ExitInternal    = 1 // a defect, or an error nobody classified
	ExitUsage       = 2 // the command line or a file the user wrote is wrong
	ExitNotFound    = 3 // a volume, object, key or file is not there
	ExitDenied      = 4 // a service or the machine refuses this identity
	ExitRefused     = 5 // not authentic, not what was agreed, or a gate said no
	ExitConflict    = 6 // somebody else was first, or the target is in the way
	ExitUnavailable = 7 // a service does not answer or a device is full; try again
	ExitIncomplete  = 8 // ended with part of the work not done or not durable
)

// ExitStatus is an error that carries the exit code of a program Cloister ran
// for the user; Main exits with that code and prints nothing of its own.
type ExitStatus int

func (s ExitStatus) Error() string { return fmt.Sprintf("the application exited with %d", int(s)) }

// ExitCode returns the exit code for err.
func ExitCode(err error) int {
	var status ExitStatus
	if errors.As(err, &status) {
		return int(status)
	}
	if err == nil {
		return ExitOK
	}
	switch fault.KindOf(err) {
	case fault.Usage:
		return ExitUsage
	case fault.NotFound:
		return ExitNotFound
	case fault.Denied:
		return ExitDenied
	case fault.Refused:
		return ExitRefused
	case fault.Conflict:
		return ExitConflict
	case fault.Unavailable:
		return ExitUnavailable
	case fault.Incomplete:
		return ExitIncomplete
	default:
		return ExitInternal
	}
}

// Main runs app with args and returns the exit code. Writers come from app;
// where they are unset they are the process's own.
func Main(app *cli.App, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	// urfave/cli ends the process inside Run unless told otherwise.
	app.ExitErrHandler = func(*cli.Context, error) {}
	app.Version = version(debug.ReadBuildInfo())
	prepare(app)
	if app.ErrWriter == nil {
		app.ErrWriter = os.Stderr
	}

	err := app.RunContext(ctx, args)
	Report(app.ErrWriter, app.Name, err)
	return ExitCode(err)
}

// Report prints err to w as "name: fact" and one "hint:" line for each remedy.
// It prints nothing for nil and for an ExitStatus.
func Report(w io.Writer, name string, err error) {
	var status ExitStatus
	if err == nil || errors.As(err, &status) {
		return
	}
	fmt.Fprintf(w, "%s: %s\n", name, Printable(err.Error()))
	for _, hint := range fault.Hints(err) {
		fmt.Fprintf(w, "  hint: %s\n", Printable(hint))
	}
}

// Printable escapes what a terminal would act on: names come from other
// parties' volumes, and an escape sequence in one must not reach the screen.
// New lines and tabs stay.
func Printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == '\n' || r == '\t' || (r >= 0x20 && r < 0x7f) || r >= 0xa0 {
			b.WriteRune(r)
			continue
		}
		fmt.Fprintf(&b, "\\x%02x", r)
	}
	return b.String()
}
