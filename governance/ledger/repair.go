package ledger

import (
	"bytes"
	"context"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/fault"
)

// repair deals with what a killed appender left after the checkpoint: lines that
// are whole become part of the log, as their writer was about to say; a torn
// one, which nobody was told of, is cut off. The first lines of an append are
// the start of a chain of which the run learns how far it got. One append leaves
// one line, or some of one run, so anything else was not left by a kill and is
// not touched.
func (l *Ledger) repair(ctx context.Context) error {
	tail, err := l.files.tail()
	if err != nil || len(tail) == 0 {
		return err
	}
	lines := bytes.Split(tail, []byte("\n"))
	whole, torn := lines[:len(lines)-1], lines[len(lines)-1]
	if len(torn) > statement.MaxEntry || !leftByOneAppend(whole, len(torn) > 0) {
		return fault.Errorf(fault.Refused, "the checkpoint is older than the log, or somebody wrote into it: restore both from one backup",
			"%s goes on for %d bytes after the last checkpoint", entriesFile, len(tail))
	}
	if len(whole) == 0 {
		return l.files.cut(0)
	}
	if _, err := l.view.State().CheckAll(whole); err != nil {
		return fault.Errorf(fault.Refused, "remove the line if you know where it is from",
			"the line after the last checkpoint was not written by a ledger: %w", err)
	}
	if len(torn) > 0 {
		if err := l.files.cut(len(tail) - len(torn)); err != nil {
			return err
		}
	}
	signed, err := l.publish(whole)
	if err != nil {
		return err
	}
	return l.followTo(ctx, signed)
}

func leftByOneAppend(whole [][]byte, torn bool) bool {
	if len(whole) == 0 || len(whole) == 1 && !torn {
		return true
	}
	lines := len(whole)
	if torn {
		lines++
	}
	return lines <= governance.MaxAppend && ofOneRun(whole)
}
