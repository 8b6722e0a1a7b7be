package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"cloister/governance"
	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/policy/spec"
	"cloister/prep/deploy"

	urfave "github.com/urfave/cli/v2"
)

func deployStatusCommand() *urfave.Command {
	return &urfave.Command{
		Name: "status", Usage: "say what is deployed, and with --ledger how far its runs have come", ArgsUsage: "DIR SPEC",
		Description: "What a run says of itself is in the record that its key signs: with --ledger, the\n" +
			"step that each run of the contract's newest version recorded last.\n" + placeHelp +
			"\nExit code 3 where nothing is deployed.\n\nJSON: units (as of up), runs (run, replica, state, step, entry, time).",
		Flags:  append(append(readerFlags(), placeFlags()...), jsonFlag()),
		Action: action(withTimeout(deployStatus), "DIR", "SPEC"),
	}
}

// roomStatus is what `deploy status` reports.
type roomStatus struct {
	Units []deploy.Unit `json:"units"`
	Runs  []step        `json:"runs"`
}

// step is the last that a run has said.
type step struct {
	Run     string `json:"run"`
	Replica uint64 `json:"replica"`
	State   string `json:"state"`
	Step    string `json:"step"`
	Entry   int64  `json:"entry"`
	Time    string `json:"time"`
}

func deployStatus(ctx context.Context, c *urfave.Context, args []string) error {
	s, room, err := deployed(c, args)
	if err != nil {
		return err
	}
	status := roomStatus{Runs: []step{}}
	if status.Units, err = room.Status(ctx); err != nil {
		return err
	}
	if c.String("ledger") != "" {
		if status.Runs, err = stepsOf(ctx, c, s); err != nil {
			return err
		}
	}
	if err := printResult(c, status, status.print); err != nil {
		return err
	}
	for _, u := range status.Units {
		if u.State != deploy.Missing {
			return nil
		}
	}
	return fault.Errorf(fault.NotFound, "`cloister deploy up` makes it", "nothing of %s is deployed there", args[0])
}

func (r roomStatus) print(stdout, _ io.Writer) {
	printUnits(stdout, r.Units, stateOf)
	for _, run := range r.Runs {
		fmt.Fprintf(stdout, "run %s %s\n%-10s last, entry %d at %s: %s\n", run.Run, cli.Printable(run.State), "", run.Entry, run.Time, cli.Printable(run.Step))
	}
}

// followRuns follows the log with the specification's trust in it. What it has seen
// is told to seen, if that is set.
func followRuns(ctx context.Context, c *urfave.Context, s spec.Specification) (*runLog, func(), error) {
	return followRunsWith(ctx, c, s, nil)
}

func followRunsWith(ctx context.Context, c *urfave.Context, s spec.Specification, seen func(*governance.State, governance.Seen)) (*runLog, func(), error) {
	log, view, done, err := watchedLogOf(c, s)
	if err != nil {
		return nil, done, err
	}
	l := newRunLog(log, view)
	if seen != nil {
		l.seen = func(e governance.Seen) { seen(view.State(), e) }
	}
	return l, done, l.advance(ctx)
}

// stepsOf are what the runs of the newest version have recorded last.
func stepsOf(ctx context.Context, c *urfave.Context, s spec.Specification) ([]step, error) {
	last := map[string]governance.Line{}
	l, done, err := followRunsWith(ctx, c, s, func(state *governance.State, seen governance.Seen) {
		if line := governance.LineOf(seen, state); line.Run != "" {
			last[line.Run] = line
		}
	})
	defer done()
	if err != nil {
		return nil, err
	}
	k, _ := l.view.State().Contract()
	list := []step{}
	for _, r := range l.runs() {
		if line := last[r.ID]; r.Version == k.Version {
			list = append(list, step{r.ID, r.Replica, r.words(), line.Words, line.Entry, line.Time.Format(time.RFC3339)})
		}
	}
	return list, nil
}
