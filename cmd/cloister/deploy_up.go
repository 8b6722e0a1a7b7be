package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/policy/spec"
	"cloister/policy/template"
	"cloister/prep/deploy"

	urfave "github.com/urfave/cli/v2"
)

func deployUpCommand() *urfave.Command {
	return &urfave.Command{
		Name: "up", Usage: "deploy the clean room of an accepted contract, once all keys are in place", ArgsUsage: "DIR SPEC",
		Description: "Without --yes it says what it would do, and does nothing. The template must be what\n" +
			"the specification gives on this machine, the contract accepted for exactly that, and\n" +
			"the ledger must have every owner's word that the keys of its volumes are in place:\n" +
			"that is waited for. Then what is missing is made; interrupted, the same command goes\n" +
			"on, and makes nothing twice. It returns when everything runs, or with --wait when it\n" +
			"has ended; where it has, with the first exit code of a container that is not 0.\n" + placeHelp +
			"\nJSON: contract, version, containerPolicy, waits (volume, owner, declined), units (kind, name, state,\n" +
			"detail, containers, changed).",
		Flags: append(append(append(partyFlags(), imageFlags()...), placeFlags()...), versionFlag(),
			&urfave.BoolFlag{Name: "yes", Usage: "do it"},
			&urfave.BoolFlag{Name: "wait", Usage: "also wait until it has ended"},
			jsonFlag()),
		Action: action(withTimeout(deployUp), "--ledger", "--party", "DIR", "SPEC"),
	}
}

// deployment is what `deploy up` reports.
type deployment struct {
	Contract        string        `json:"contract"`
	Version         uint64        `json:"version"`
	ContainerPolicy string        `json:"containerPolicy"` // digest: HOST_DATA
	Waits           []waited      `json:"waits"`
	Units           []deploy.Unit `json:"units"`
}

// waited is a volume whose owner has not said that its keys are in place.
type waited struct {
	Volume   string `json:"volume"`
	Owner    string `json:"owner"`
	Declined string `json:"declined,omitempty"`
}

func deployUp(ctx context.Context, c *urfave.Context, args []string) error {
	s, t, err := verified(c, args)
	if err != nil {
		return err
	}
	l, done, err := openAgreed(ctx, c, s)
	defer done()
	if err != nil {
		return err
	}
	room, err := roomOf(c, s, t)
	if err != nil {
		return err
	}
	k, _ := l.view.State().Contract()
	d := deployment{Contract: k.ID, Version: k.Version, ContainerPolicy: k.ContainerPolicy, Waits: l.waits()}
	if !c.Bool("yes") {
		if d.Units, err = room.Status(ctx); err != nil {
			return err
		}
		return printResult(c, d, d.plan)
	}
	if err := l.awaitKeys(ctx, c.App.ErrWriter); err != nil {
		return err
	}
	d.Waits = []waited{}
	d.Units, err = up(ctx, room, c.Bool("wait"))
	return ending(c, d, err)
}

func up(ctx context.Context, room *deploy.Room, wait bool) ([]deploy.Unit, error) {
	units, err := room.Up(ctx)
	if err != nil || !wait {
		return units, err
	}
	ended, err := room.WaitEnded(ctx)
	for i := range min(len(ended), len(units)) {
		ended[i].Changed = units[i].Changed
	}
	return ended, err
}

// ending prints what there is now, and makes the exit code.
func ending(c *urfave.Context, d deployment, err error) error {
	if printed := printResult(c, d, d.print); err != nil || printed != nil {
		return first(err, printed)
	}
	if slices.ContainsFunc(d.Units, func(u deploy.Unit) bool { return u.Ended() && !u.Changed }) {
		fmt.Fprintln(c.App.ErrWriter, "it has ended before: `cloister deploy down`, and then up, starts another run")
	}
	if slices.ContainsFunc(d.Units, func(u deploy.Unit) bool { return u.State == deploy.Failed }) {
		if code := deploy.ExitCode(d.Units); code != 0 {
			fmt.Fprintf(c.App.ErrWriter, "a container has ended with exit code %d: `cloister deploy logs` has what it said\n", code)
			return cli.ExitStatus(code)
		}
		return fault.Errorf(fault.Incomplete, "see `cloister deploy status` and `cloister deploy logs`; after `cloister deploy down`, up starts anew", "the platform could not start all of it")
	}
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (d deployment) plan(stdout, stderr io.Writer) {
	fmt.Fprintf(stdout, "contract %s version %d, accepted, under container policy %s\n", cli.Printable(d.Contract), d.Version, d.ContainerPolicy)
	for _, w := range d.Waits {
		fmt.Fprintf(stdout, "%-10s %s\n", "wait", w)
	}
	printUnits(stdout, d.Units, func(u deploy.Unit) string {
		switch u.State {
		case deploy.Missing:
			return "make"
		case deploy.Differs:
			return "refuse"
		}
		return "leave"
	})
	fmt.Fprintln(stderr, "nothing was changed; give --yes to do this")
}

func (d deployment) print(stdout, stderr io.Writer) {
	printUnits(stdout, d.Units, stateOf)
	n := 0
	for _, u := range d.Units {
		if u.Changed {
			n++
		}
	}
	fmt.Fprintf(stderr, "%d of %s made now\n", n, count(len(d.Units), "resource"))
}

func (w waited) String() string {
	if w.Declined != "" {
		return cli.Printable(w.Declined)
	}
	return fmt.Sprintf("for %s to provision %s", cli.Printable(w.Owner), cli.Printable(w.Volume))
}

// verified makes the template again here, and refuses another one in the folder.
func verified(c *urfave.Context, args []string) (spec.Specification, template.Template, error) {
	s, t, err := templateOf(c, args[1])
	if err != nil {
		return s, t, err
	}
	have, err := templateFile(args[0], s)
	if err != nil {
		return s, t, err
	}
	if err := t.Verify(have.Text); err != nil {
		return s, t, fmt.Errorf("%s: %w", filepath.Join(args[0], t.Name), err)
	}
	return s, t, nil
}

// agreed is the log of a contract that is accepted for a specification.
type agreed struct {
	log  governance.Log
	view *watched
	test func() error // that it still is
}

// openAgreed follows the log, with the specification's own trust in it, and refuses
// a contract that is not accepted for exactly this specification.
func openAgreed(ctx context.Context, c *urfave.Context, s spec.Specification) (*agreed, func(), error) {
	log, view, done, err := watchedLogOf(c, s)
	if err != nil {
		return nil, done, err
	}
	d, err := digestsFor(c, s)
	if err != nil {
		return nil, done, err
	}
	l := &agreed{log: log, view: view}
	l.test = func() error {
		k, _, err := newest(c, l.view.State())
		if err != nil {
			return err
		}
		if status := l.view.State().Status(); status != governance.Accepted {
			return fault.Errorf(fault.Conflict, "see cloister contract status", "contract %s version %d is %s: what is deployed is an accepted one", k.ID, k.Version, status)
		}
		return d.verify(k, s)
	}
	return l, done, l.advance(ctx)
}

func (l *agreed) advance(ctx context.Context) error {
	if err := l.view.follow(ctx, l.log, nil); err != nil {
		return err
	}
	return l.test()
}

// waits are the volumes whose owners have not said that both keys are in place.
func (l *agreed) waits() []waited {
	list := []waited{}
	for _, p := range l.view.State().Provisioning() {
		has := func(kind string) bool {
			return slices.ContainsFunc(p.Resources, func(r statement.Resource) bool { return r.Kind == kind && r.Name == p.Volume })
		}
		if p.Declined != "" || !has(statement.ResourceKEK) || !has(statement.ResourceWrappedDEK) {
			list = append(list, waited{p.Volume, p.Owner, p.Declined})
		}
	}
	return list
}

// awaitKeys waits for every owner's word, and says for whose, when that changes.
// A contract that is amended meanwhile is refused.
func (l *agreed) awaitKeys(ctx context.Context, stderr io.Writer) error {
	said := ""
	for {
		list := l.waits()
		if len(list) == 0 {
			return nil
		}
		var words []string
		for _, w := range list {
			words = append(words, w.String())
		}
		now := strings.Join(words, "; ")
		if i := slices.IndexFunc(list, func(w waited) bool { return w.Declined != "" }); i >= 0 {
			return fault.Errorf(fault.Refused, "agree on a contract without that volume, or have its owner provision it after all", "the keys of volume %s will not be in place: %s", list[i].Volume, list[i])
		}
		if now != said {
			fmt.Fprintf(stderr, "waits %s\n", now)
			said = now
		}
		select {
		case <-ctx.Done():
			if ctx.Err() == context.Canceled {
				return ctx.Err()
			}
			return fault.Errorf(fault.Unavailable, "have its owner run `cloister provision apply`, and give the command again, or wait longer with --timeout", "not all keys are in place: it waits %s", now)
		case <-time.After(askAgain):
		}
		if err := l.advance(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}
