package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

func runsWatchCommand() *urfave.Command {
	return &urfave.Command{
		Name: "watch", Usage: "follow the log, and print what runs do as it is verified, until a signal",
		Description: "A line each: a run's begin, its questions for consent and their answers, accesses,\n" +
			"start and end of the application, refusals, its end. Nothing is printed before the\n" +
			"checkpoint that it is under is verified. A ledger that is away is asked again; one\n" +
			"that contradicts itself ends it with exit code 5. With --run it ends when the run\n" +
			"has: 0 where that is complete, 8 where not.\n\n" +
			"--webhook is told of each run's end, at least once and in their order: a POST of\n" +
			"type run.ended as Standard Webhooks has it, its id the same each time, signed with\n" +
			"--webhook-key (HMAC-SHA256). It says ledger (digest of its key), entry, run,\n" +
			"version, complete; no names, no contents. What it does not take is told again.\n\n" +
			"JSON, an object a line: entry, type, time, by, words, body, as of audit list.",
		Flags: auditFlags(jsonFlag(),
			&urfave.StringFlag{Name: "run", Usage: "only the run `ID`, until it has ended"},
			&urfave.Uint64Flag{Name: "from", Usage: "print and tell what is from `ENTRY` on; all is verified"},
			&urfave.StringFlag{Name: "cursor", Usage: "keep in `FILE` from which entry on there is something to print or tell, and begin there"},
			&urfave.StringFlag{Name: "webhook", Usage: "the `URL` to POST to: https, or http on loopback; no secret, other users of the machine see it"},
			&urfave.StringFlag{Name: "webhook-key", Usage: "the key shared with the webhook, `FILE`: whsec_ and base64"}),
		Action: action(runsWatch, "--ledger"),
	}
}

// watch follows a log. What an advance brings is held until it is verified.
type watch struct {
	*runLog
	run    string // "" for every run
	json   bool
	ledger string // digest of its key
	where  *cursor
	tell   *teller // nil without --webhook

	lines bytes.Buffer // to print
	ends  []ended      // to tell
	away  bool         // the ledger, and that was said
}

func runsWatch(c *urfave.Context, _ []string) error {
	where, err := openCursor(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(c.Context)
	defer cancel(nil)
	log, key, witnesses, done, err := auditLog(c)
	defer done()
	if err != nil {
		return err
	}
	view, err := newWatched(c, key, witnesses)
	if err != nil {
		return err
	}
	w := &watch{runLog: newRunLog(log, view), run: c.String("run"), json: c.Bool("json"), ledger: statement.Digest([]byte(key)), where: where}
	w.seen = w.take
	if w.tell, err = startTeller(ctx, c, where, cancel); err != nil {
		return err
	}
	err = w.follow(ctx, c.App.Writer, c.App.ErrWriter)
	w.tell.finish(err == nil && ctx.Err() == nil)
	if err == nil && c.Context.Err() == nil {
		err = context.Cause(ctx)
	}
	return w.end(c, err)
}

// follow returns nil when the caller ends it, or the run that is watched has ended.
func (w *watch) follow(ctx context.Context, stdout, stderr io.Writer) error {
	for ctx.Err() == nil {
		err := w.turn(ctx, stdout)
		switch {
		case ctx.Err() != nil:
			return nil
		case fault.KindOf(err) == fault.Unavailable:
			if !w.away {
				fmt.Fprintln(stderr, "cloister: asking again:", err)
			}
		case err != nil:
			return err
		}
		w.away = err != nil
		if r, err := w.find(w.run); w.run != "" && err == nil && r.Completed {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(askAgain):
		}
	}
	return nil
}

// turn follows the log to its newest checkpoint, and then prints and tells.
func (w *watch) turn(ctx context.Context, stdout io.Writer) error {
	if err := w.advance(ctx); err != nil {
		return err
	}
	size := uint64(w.view.Tree().Size())
	if from := w.where.from(); from > size {
		return fault.Errorf(fault.Refused, "see that it is the same ledger; keep its files, if it was rolled back", "the log has %d entries, fewer than the %d that were seen before", size, from)
	}
	if _, err := w.lines.WriteTo(stdout); err != nil {
		return err
	}
	for _, e := range w.ends {
		if err := w.tell.add(ctx, e); err != nil {
			return err
		}
	}
	w.ends = nil
	return w.where.seen(size)
}

// take keeps what a statement comes to.
func (w *watch) take(seen governance.Seen) {
	body, ok := seen.Statement.Body.(statement.RunBody)
	if !ok || uint64(seen.Index) < w.where.from() || w.run != "" && w.run != body.Header().ID {
		return
	}
	line := governance.LineOf(seen, w.view.State())
	_ = printLine(&w.lines, w.json, line, seen.Statement, "run "+line.Run) // into memory
	if end, ok := body.(*statement.Completion); ok && w.tell != nil {
		w.ends = append(w.ends, ended{Ledger: w.ledger, Entry: uint64(seen.Index), Run: line.Run, Version: line.Version, Complete: end.Complete, time: line.Time})
	}
}

// end says where the next watch goes on, and how this one ended.
func (w *watch) end(c *urfave.Context, err error) error {
	from := w.where.from()
	if err != nil {
		return err
	}
	if n := w.where.untold(); n > 0 {
		return fault.Errorf(fault.Incomplete, fmt.Sprintf("go on with --from %d, or the --cursor", from), "the webhook was not told of the end of %s", count(n, "run"))
	}
	if r, err := w.find(w.run); w.run != "" && err == nil && r.Completed {
		if !r.Complete {
			return r.incomplete("see what it says and run it again")
		}
		return nil
	}
	fmt.Fprintf(c.App.ErrWriter, "go on with --from %d\n", from)
	return nil
}
