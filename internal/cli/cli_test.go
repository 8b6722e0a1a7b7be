package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"cloister/internal/fault"

	"github.com/urfave/cli/v2"
)

func TestMainTurnsErrorsIntoCodesAndHints(t *testing.T) {
	for _, tc := range []struct {
		err    error
		code   int
		stderr string
	}{
		{nil, ExitOK, ""},
		{errors.New("odd"), ExitInternal, "x: odd\n"},
		{fault.Errorf(fault.Refused, "get the right one", "segment %d", 7), ExitRefused, "x: segment 7\n  hint: get the right one\n"},
		{fmt.Errorf("wrapped: %w", fault.Sentinel(fault.NotFound, "gone")), ExitNotFound, "x: wrapped: gone\n"},
		{ExitStatus(42), 42, ""},
		{fault.Errorf(fault.Conflict, "", "name \x1b[31m"), ExitConflict, "x: name \\x1b[31m\n"},
	} {
		var stderr strings.Builder
		app := &cli.App{Name: "x", ErrWriter: &stderr, Action: func(*cli.Context) error { return tc.err }}
		if got := Main(app, []string{"x"}); got != tc.code {
			t.Errorf("%v: exit code %d, want %d", tc.err, got, tc.code)
		}
		if stderr.String() != tc.stderr {
			t.Errorf("%v: stderr %q, want %q", tc.err, stderr.String(), tc.stderr)
		}
	}
}

func TestUnknownFlagIsUsage(t *testing.T) {
	var stderr, stdout strings.Builder
	app := &cli.App{Name: "x", Writer: &stdout, ErrWriter: &stderr,
		Commands: []*cli.Command{{Name: "sub", Action: func(*cli.Context) error { return nil }}}}
	if got := Main(app, []string{"x", "sub", "--nope"}); got != ExitUsage {
		t.Errorf("exit code %d, want %d; stderr %q", got, ExitUsage, stderr.String())
	}
}
