// Package fault classifies the errors a user can meet and carries the remedy
// with the cause.
//
// Life of an error: the place that knows what went wrong makes it with Errorf,
// naming the thing, a Kind and a hint; callers wrap it with %w and say what
// they were doing; the binary's one exit path prints the text, then the hints,
// and turns the Kind into the exit code. Package cli holds that path.
package fault

import (
	"errors"
	"fmt"
)

// Kind says what sort of answer an error is. It decides the exit code and
// nothing else; code that must branch on one particular condition uses a
// sentinel and errors.Is.
type Kind int

const (
	// Internal is an error nobody classified: a defect, or a failure of the
	// machine that no remedy of ours covers.
	Internal Kind = iota
	// Usage: the command line or a file the user wrote is not of the form asked.
	Usage
	// NotFound: a named volume, object, key or file is not there.
	NotFound
	// Denied: a service or the machine refuses access to this identity.
	Denied
	// Refused: what was presented is there but not authentic, not what was
	// agreed, or not allowed. Every gate and integrity failure is of this kind.
	Refused
	// Conflict: somebody else was first, or the target is in the way.
	Conflict
	// Unavailable: a service or device does not answer, or is full, after the
	// retries it deserves. The same command may succeed later.
	Unavailable
	// Incomplete: work ended with part of it not done or not durable.
	Incomplete
)

// String returns the kind's name as machine-readable output shows it.
func (k Kind) String() string {
	switch k {
	case Usage:
		return "usage"
	case NotFound:
		return "not-found"
	case Denied:
		return "denied"
	case Refused:
		return "refused"
	case Conflict:
		return "conflict"
	case Unavailable:
		return "unavailable"
	case Incomplete:
		return "incomplete"
	default:
		return "internal"
	}
}

type classified struct {
	kind Kind
	hint string
	err  error
}

func (e *classified) Error() string { return e.err.Error() }
func (e *classified) Unwrap() error { return e.err }

// Errorf makes an error of a kind with a hint: the remedy, one sentence, or ""
// where the text already says it. format and args are as for fmt.Errorf, %w
// included.
func Errorf(kind Kind, hint, format string, args ...any) error {
	return &classified{kind: kind, hint: hint, err: fmt.Errorf(format, args...)}
}

// Sentinel makes a comparable error of a kind, for a condition that callers
// branch on with errors.Is.
func Sentinel(kind Kind, text string) error {
	return &classified{kind: kind, err: errors.New(text)}
}

// KindOf returns the kind of the outermost classified error in err's chain,
// or Internal.
func KindOf(err error) Kind {
	var e *classified
	if errors.As(err, &e) {
		return e.kind
	}
	return Internal
}

// Hints returns the remedies along err's chain, outermost first, each once.
func Hints(err error) []string {
	var hints []string
	seen := map[string]bool{}
	var walk func(error)
	walk = func(err error) {
		if e, ok := err.(*classified); ok && e.hint != "" && !seen[e.hint] {
			seen[e.hint] = true
			hints = append(hints, e.hint)
		}
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			if next := u.Unwrap(); next != nil {
				walk(next)
			}
		case interface{ Unwrap() []error }:
			for _, next := range u.Unwrap() {
				walk(next)
			}
		}
	}
	if err != nil {
		walk(err)
	}
	return hints
}
