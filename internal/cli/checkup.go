package cli

import (
	"context"
	"fmt"
	"io"

	"cloister/internal/fault"
)

// Checkup tries things one after the other and says of each, in a line, what
// came back. What it is given to print must hold no secret.
type Checkup struct {
	w     io.Writer
	first error
}

// NewCheckup returns one that prints to w.
func NewCheckup(w io.Writer) *Checkup { return &Checkup{w: w} }

// Try prints what was tried, what came back and, of a failure, what to change.
// It reports whether what was tried succeeded.
func (c *Checkup) Try(ctx context.Context, name string, do func(context.Context) (string, error)) bool {
	found, err := do(ctx)
	if err == nil {
		fmt.Fprintf(c.w, "ok   %s: %s\n", Printable(name), Printable(found))
		return true
	}
	fmt.Fprintf(c.w, "FAIL %s: %s\n", Printable(name), Printable(err.Error()))
	for _, hint := range fault.Hints(err) {
		fmt.Fprintf(c.w, "     change: %s\n", Printable(hint))
	}
	if c.first == nil {
		c.first = fmt.Errorf("%s: %w", name, err)
	}
	return false
}

// Err is the first failure, nil where there was none.
func (c *Checkup) Err() error { return c.first }
