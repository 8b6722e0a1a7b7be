package main

import (
	"fmt"
	"io"

	"cloister/governance"
	"cloister/governance/statement"
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
		Action: action(deployStatus, "DIR", "SPEC"),
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

func deployStatus(c *urfave.Context, args []string) error {
	s, room, err := deployed(c, args)
	if err != nil {
		return err
	}
	ctx, cancel := withTimeout(c)
	defer cancel()
	status := roomStatus{Runs: []step{}}
	if status.Units, err = room.Status(ctx); err != nil {
		return err
	}
	if c.String("ledger") != "" {
		if status.Runs, err = stepsOf(c, s); err != nil {
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

// stepsOf follows the log, with the specification's trust in it, to what each run of
// the newest version has recorded last.
func stepsOf(c *urfave.Context, s spec.Specification) ([]step, error) {
	log, _, done, err := findLog(c)
	defer done()
	if err != nil {
		return nil, err
	}
	g := s.Governance
	view := governance.NewCosignedView(g.LedgerKey, governance.Witnesses{Keys: g.Witnesses, Threshold: g.Threshold})
	last, exits := map[string]governance.Line{}, map[string]*statement.Completion{}
	err = view.AdvanceToNewest(c.Context, log, func(seen governance.Seen) {
		if seen.Statement == nil {
			return
		}
		if line := governance.LineOf(seen, view.State()); line.Run != "" {
			last[line.Run] = line
		}
		if end, ok := seen.Statement.Body.(*statement.Completion); ok {
			exits[end.Run.ID] = end
		}
	})
	if err != nil {
		return nil, err
	}
	k, _ := view.State().Contract()
	list := []step{}
	for _, status := range view.State().Runs() {
		if status.Version != k.Version {
			continue
		}
		r := ran{RunStatus: status}
		if end := exits[status.ID]; end != nil {
			r.Exit, r.Outputs = &end.Exit, end.Outputs
		}
		line := last[status.ID]
		list = append(list, step{status.ID, status.Replica, r.words(), line.Words, line.Entry, line.Time.Format("2006-01-02T15:04:05Z07:00")})
	}
	return list, nil
}
