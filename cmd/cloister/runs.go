package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/cli"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// runsCommand is "cloister runs": what clean rooms did, and whether they are done.
func runsCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "runs",
		Usage: "list the runs of a contract, wait for one to end, and tell of it",
		Description: "What a run says of itself is signed by the key in its attestation report; the log\n" +
			"is verified on the way. A run without an end is shown as running or incomplete: the\n" +
			"record cannot tell which.",
		Subcommands: []*urfave.Command{runsListCommand(), runsWaitCommand(), runsWatchCommand()},
	}
}

// ran is a run as the verified log has it.
type ran struct {
	governance.RunStatus
	Exit    *int               `json:"exit,omitempty"` // once it has completed
	Outputs []statement.Output `json:"outputs,omitempty"`
	key     statement.PublicKey
}

func (r ran) words() string {
	switch {
	case r.Complete:
		return fmt.Sprintf("complete, exit code %d, %s", *r.Exit, count(len(r.Outputs), "output"))
	case r.Completed:
		return fmt.Sprintf("INCOMPLETE: %s", r.Detail)
	case r.Running != "":
		return "runs " + r.Running + ", or was killed"
	default:
		return "has begun, or was killed"
	}
}

// runLog follows a log and keeps what completions say, which the fold forgets.
type runLog struct {
	log         governance.Source
	view        *watched
	keys        map[string]statement.PublicKey
	completions map[string]*statement.Completion
	seen        func(governance.Seen) // is told of each statement, if set; it is not verified before advance returns
}

func newRunLog(log governance.Source, view *watched) *runLog {
	return &runLog{log: log, view: view, keys: map[string]statement.PublicKey{}, completions: map[string]*statement.Completion{}}
}

// advance follows the log to its newest checkpoint.
func (l *runLog) advance(ctx context.Context) error {
	return l.view.follow(ctx, l.log, func(seen governance.Seen) {
		if seen.Statement == nil {
			return
		}
		switch b := seen.Statement.Body.(type) {
		case *statement.RunBegin:
			if key, err := statement.ParsePublicKey(b.AuditKey); err == nil {
				l.keys[b.Run.ID] = key
			}
		case *statement.Completion:
			l.completions[b.Run.ID] = b
		}
		if l.seen != nil {
			l.seen(seen)
		}
	})
}

func (l *runLog) runs() (list []ran) {
	for _, status := range l.view.State().Runs() {
		r := ran{RunStatus: status, key: l.keys[status.ID]}
		if end := l.completions[status.ID]; end != nil {
			r.Exit, r.Outputs = &end.Exit, end.Outputs
		}
		list = append(list, r)
	}
	return list
}

// find returns the run with an id, or the newest for "".
func (l *runLog) find(id string) (ran, error) {
	list := l.runs()
	switch {
	case id == "" && len(list) > 0:
		return list[len(list)-1], nil
	case id == "":
		return ran{}, fault.Errorf(fault.NotFound, "start the clean room", "the record has no run yet")
	}
	if i := slices.IndexFunc(list, func(r ran) bool { return r.ID == id }); i >= 0 {
		return list[i], nil
	}
	return ran{}, fault.Errorf(fault.NotFound, "`cloister runs list` has those there are", "the record has no run %s", cli.Printable(id))
}

// newest returns the newest run that is wanted; where none is, the newest of all,
// so that the caller can say what is the matter with it.
func (l *runLog) newest(wanted func(ran) bool) (ran, error) {
	for _, r := range slices.Backward(l.runs()) {
		if wanted(r) {
			return r, nil
		}
	}
	return l.find("")
}

// openRuns opens the log that the flags name, followed to its newest checkpoint.
func openRuns(c *urfave.Context) (*runLog, func(), error) {
	log, view, done, err := watchedLog(c)
	if err != nil {
		return nil, done, err
	}
	l := newRunLog(log, view)
	return l, done, l.advance(c.Context)
}

// incomplete is the error of a run that ended so.
func (r ran) incomplete(hint string) error {
	return fault.Errorf(fault.Incomplete, hint, "run %s ended incomplete: %s", r.ID, r.Detail)
}

func runsListCommand() *urfave.Command {
	return &urfave.Command{
		Name: "list", Usage: "print the runs, the oldest first",
		Description: "JSON, an object a line: id, version, replica, records, begun (entry), completed,\n" +
			"complete, detail, running, exit, outputs (name, reference, check).",
		Flags: auditFlags(jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			l, done, err := openRuns(c)
			defer done()
			if err != nil {
				return err
			}
			out := json.NewEncoder(c.App.Writer)
			for _, r := range l.runs() {
				if !c.Bool("json") {
					fmt.Fprintf(c.App.Writer, "%s  version %d, %s\n", r.ID, r.Version, cli.Printable(r.words()))
				} else if err := out.Encode(r); err != nil {
					return err
				}
			}
			return nil
		}, "--ledger"),
	}
}

func runsWaitCommand() *urfave.Command {
	return &urfave.Command{
		Name: "wait", Usage: "wait until a run has ended, and print its outputs",
		Description: "Exit code 0 where it is complete, 8 where it ended incomplete, 7 where it has not\n" +
			"ended within --timeout.\n\nJSON: as of list.",
		Flags: auditFlags(jsonFlag(),
			&urfave.StringFlag{Name: "run", Usage: "the run `ID`; by default the newest, once there is one"},
			&urfave.DurationFlag{Name: "timeout", Usage: "how long to wait", Value: time.Hour}),
		Action: action(runsWait, "--ledger"),
	}
}

// askAgain is how often the log is asked for what is new: a run's end can wait a
// second, and a checkpoint costs a request.
const askAgain = time.Second

func runsWait(c *urfave.Context, _ []string) error {
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
	defer cancel()
	l, done, err := openRuns(c)
	defer done()
	if err != nil {
		return err
	}
	r, err := l.awaitEnd(ctx, c.String("run"))
	if err != nil {
		return err
	}
	if err := printResult(c, r, func(stdout, stderr io.Writer) {
		fmt.Fprintf(stderr, "run %s: %s\n", r.ID, cli.Printable(r.words()))
		for _, o := range r.Outputs {
			fmt.Fprintln(stdout, cli.Printable(o.Name), o.Reference)
		}
	}); err != nil {
		return err
	}
	if !r.Complete {
		return r.incomplete("see what it says and run it again")
	}
	return nil
}

// awaitEnd follows the log until the run has an end in it.
func (l *runLog) awaitEnd(ctx context.Context, id string) (ran, error) {
	for {
		r, err := l.find(id)
		if err == nil && r.Completed || err != nil && id != "" {
			return r, err
		}
		select {
		case <-ctx.Done():
			if ctx.Err() == context.Canceled {
				return r, ctx.Err()
			}
			return r, fault.Errorf(fault.Unavailable, "wait longer with --timeout, or look whether it still runs", "run %s has no end in the record yet", r.ID)
		case <-time.After(askAgain):
		}
		if err := l.advance(ctx); err != nil && ctx.Err() == nil {
			return r, err
		}
	}
}
