package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/policy/spec"
	"cloister/prep/deploy"
	"cloister/prep/provision"

	urfave "github.com/urfave/cli/v2"
)

// teardownCommand is "cloister teardown": a party's end of a collaboration.
func teardownCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "teardown",
		Usage: "take down a party's part of a collaboration: compute, roles, and keys and data if asked; say what is left",
		Description: "Without --yes it says what would go, and takes nothing. Compute goes first, where\n" +
			"--deploy names its template; then what the party's volumes have in the cloud. It\n" +
			"refuses while a run is live: one that the record has no end of, unless the platform\n" +
			"shows that nothing of --deploy runs; or containers that run. Again, it changes\n" +
			"nothing, and goes on where it was interrupted. What other parties have is theirs.\n" + accessHelp +
			"\nJSON: units (as of deploy up), items (as of provision status), left (words).",
		Flags: append(append(append(readerFlags(), ownerFlags()...), placeFlags()[1:]...),
			text("deploy", "the folder of the template that was deployed, `DIR`, for who deployed it"),
			&urfave.StringSliceFlag{Name: "volume", Usage: "only the volume `NAME` (default: all of the party's)"},
			&urfave.BoolFlag{Name: "keys", Usage: "also delete KEKs and wrapped DEKs"},
			&urfave.BoolFlag{Name: "data", Usage: "also delete the containers, with EVERYTHING in them"},
			&urfave.BoolFlag{Name: "end-runs", Usage: "although a run is live: it is asked to end, and seals what was written"},
			&urfave.BoolFlag{Name: "yes", Usage: "do it"}),
		Action: action(withTimeout(teardown), "--specification", "--ledger", "--party"),
	}
}

// tornDown is what teardown reports.
type tornDown struct {
	Units []deploy.Unit    `json:"units"`
	Items []provision.Item `json:"items"`
	Left  []string         `json:"left"`
}

func teardown(ctx context.Context, c *urfave.Context, _ []string) error {
	s, err := loadSpec(c.String("specification"))
	if err != nil {
		return err
	}
	party, unended, err := recorded(ctx, c, s)
	if err != nil {
		return err
	}
	own, err := ownVolumes(c, s, party)
	if err != nil {
		return err
	}
	d := tornDown{Units: []deploy.Unit{}, Items: []provision.Item{}, Left: leftBeside(s, own)}
	room, err := d.compute(ctx, c, s)
	if err != nil {
		return err
	}
	if live := d.live(unended); live != "" && !c.Bool("end-runs") {
		return fault.Errorf(fault.Conflict, "wait for it with `cloister runs wait`, end it with `cloister consent withdraw`, or give --end-runs", "nothing is taken down: %s", live)
	}
	if !c.Bool("yes") {
		return d.plan(c, own)
	}
	if room != nil {
		if d.Units, err = room.Down(ctx, false); err != nil {
			return errors.Join(err, d.report(c))
		}
	}
	err = d.takeVolumes(c, own)
	return errors.Join(err, d.report(c))
}

// recorded returns who asks, and the runs that the record has no end of.
func recorded(ctx context.Context, c *urfave.Context, s spec.Specification) (party string, unended []string, err error) {
	l, done, err := followRuns(ctx, c, s)
	defer done()
	if err != nil {
		return "", nil, err
	}
	for _, r := range l.runs() {
		if !r.Completed {
			unended = append(unended, r.ID)
		}
	}
	party, err = partyIn(l.view.State(), c.String("party"))
	return party, unended, err
}

// ownVolumes are those of the party whose keys are in a vault; another's are not for
// it to take.
func ownVolumes(c *urfave.Context, s spec.Specification, party string) (names []string, err error) {
	list, err := volumesNamed(s, c.StringSlice("volume"))
	if err != nil {
		return nil, err
	}
	for _, v := range list {
		switch named := len(c.StringSlice("volume")) > 0; {
		case v.Party == party && v.Key.Broker == nil:
			names = append(names, v.Name)
		case named && v.Party != party:
			return nil, fault.Errorf(fault.Denied, "let its owner take it down", "volume %q is of party %q, not of %q", v.Name, v.Party, party)
		case named:
			return nil, fault.Errorf(fault.Usage, "have its operator delete them there", "the keys of volume %q are at a key broker", v.Name)
		}
	}
	return names, nil
}

// compute looks at what is deployed, where a template was named.
func (d *tornDown) compute(ctx context.Context, c *urfave.Context, s spec.Specification) (room *deploy.Room, err error) {
	dir := c.String("deploy")
	if dir == "" {
		return nil, nil
	}
	t, err := templateFile(dir, s)
	if err != nil {
		return nil, err
	}
	if room, err = roomOf(c, s, t); err != nil {
		return nil, err
	}
	d.Units, err = room.Status(ctx)
	return room, err
}

// live says what runs, "" where nothing does. What the platform shows of our own
// deployment tells a run that was killed from one that goes on; without it there is
// the record alone.
func (d *tornDown) live(unended []string) string {
	for _, u := range d.Units {
		if u.State == deploy.Running || u.State == deploy.Pending {
			return fmt.Sprintf("%s %s is %s", u.Kind, u.Name, u.State)
		}
	}
	if len(d.Units) == 0 && len(unended) > 0 {
		return fmt.Sprintf("run %s has no end in the record", unended[0])
	}
	return ""
}

func (d *tornDown) plan(c *urfave.Context, own []string) error {
	if len(own) > 0 {
		w, err := readWanted(c, own)
		if err != nil {
			return err
		}
		defer w.destroy()
		if d.Items, err = w.status(c); err != nil {
			return err
		}
	}
	removal := provision.Removal{Keys: c.Bool("keys"), Data: c.Bool("data")}
	return printResult(c, d, func(stdout, stderr io.Writer) {
		printUnits(stdout, d.Units, func(u deploy.Unit) string {
			return cmp.Or(map[string]string{deploy.Missing: "not there", deploy.Differs: "leave"}[u.State], "delete")
		})
		for _, i := range d.Items {
			there := "leave"
			if removal.Takes(i.Kind) {
				there = "take"
			}
			printItems(stdout, []provision.Item{i}, map[string]string{provision.There: there, provision.Missing: "not there", provision.Differs: "leave", provision.Unknown: "cannot tell"})
		}
		d.printLeft(stdout)
		fmt.Fprintln(stderr, "nothing was changed; give --yes to do this")
	})
}

func (d *tornDown) takeVolumes(c *urfave.Context, own []string) error {
	if len(own) == 0 {
		return nil
	}
	w, err := readWanted(c, own)
	if err != nil {
		return err
	}
	defer w.destroy()
	var errs []error
	for _, v := range w.volumes {
		list, err := w.owner.vaults.Destroy(c.Context, v, provision.Removal{Keys: c.Bool("keys"), Data: c.Bool("data")})
		d.Items, errs = append(d.Items, list...), append(errs, err)
		if v.Container == "" && c.Bool("data") {
			d.Left = append(d.Left, "data of volume "+v.Name+", which is in a folder")
		}
	}
	return errors.Join(errs...)
}

func (d *tornDown) report(c *urfave.Context) error {
	return printResult(c, d, func(stdout, _ io.Writer) {
		printUnits(stdout, d.Units, func(u deploy.Unit) string {
			if u.State == deploy.Missing {
				return map[bool]string{true: "deleted", false: "not there"}[u.Changed]
			}
			return "left"
		})
		for _, i := range d.Items {
			printItems(stdout, []provision.Item{i}, map[string]string{provision.There: "left", provision.Missing: gone(i.Changed), provision.Differs: "left", provision.Unknown: "unknown"})
		}
		d.printLeft(stdout)
	})
}

func (d *tornDown) printLeft(w io.Writer) {
	for _, l := range d.Left {
		fmt.Fprintf(w, "%-10s %s\n", "left", cli.Printable(l))
	}
}

// leftBeside is what is not of these volumes.
func leftBeside(s spec.Specification, own []string) []string {
	left := slices.DeleteFunc(leftOf(s), func(l string) bool {
		return slices.ContainsFunc(own, func(name string) bool {
			v, ok := volumeOf(s, name)
			return ok && l == volumeLeft(v)
		})
	})
	return append(left, "the ledger's record, which `cloister audit export` copies")
}
