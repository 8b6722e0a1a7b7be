package main

import (
	"strings"

	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/policy/spec"
	"cloister/policy/spec/yaml"

	urfave "github.com/urfave/cli/v2"
)

func addApplicationCommand() *urfave.Command {
	return &urfave.Command{
		Name: "application", Usage: "what runs: the program and its arguments, flags before FILE", ArgsUsage: "FILE PROGRAM [ARG...]",
		Flags: append([]urfave.Flag{
			text("name", "the application's `NAME`"),
			&urfave.StringSliceFlag{Name: "env", Usage: "a variable as `NAME=VALUE`; may be repeated"},
			text("workdir", "the `DIR` it starts in"),
			&urfave.Uint64Flag{Name: "uid", Usage: "the user it runs as, not 0"},
			&urfave.Uint64Flag{Name: "gid", Usage: "the group it runs as, not 0"},
			text("image", "the container image by digest, `REPOSITORY@sha256:…`"),
			&urfave.StringSliceFlag{Name: "layer", Usage: "a layer's dm-verity root `HASH`, lowest first; repeated"},
			&urfave.StringSliceFlag{Name: "port", Usage: "a TCP `PORT` that it listens on; may be repeated"},
			text("governance-api", "offer it the calls of Azure clean room's governance sidecar at `PORT` of 127.0.0.1: to ask for consent, and to put events into the record"),
			text("start", "`WHEN` it starts: auto, or manual, on a client's first call; auto when not given"),
			text("restart", "`WHETHER` it starts again when it has ended: never, on-failure or always; never when not given"),
		}, resourceFlags()...),
		Action: func(c *urfave.Context) error {
			args, err := cli.Args(c, "FILE", "PROGRAM", "[ARG...]")
			if err != nil {
				return err
			}
			app, err := applicationOf(c)
			if err != nil {
				return err
			}
			return editSpec(args[0], func(d *yaml.Document) (*yaml.Document, error) { return addApplication(d, app) })
		},
	}
}

func applicationOf(c *urfave.Context) (spec.Application, error) {
	app := spec.Application{Name: c.String("name"), Command: c.Args().Tail(), WorkingDir: c.String("workdir"), Start: c.String("start"), Restart: c.String("restart")}
	if err := cli.Required(c, "name"); err != nil {
		return app, err
	}
	for _, given := range c.StringSlice("port") {
		port, err := portOf(given)
		if err != nil {
			return app, err
		}
		app.Ports = append(app.Ports, port)
	}
	if given := c.String("governance-api"); given != "" {
		var err error
		if app.GovernanceAPI, err = portOf(given); err != nil {
			return app, err
		}
	}
	for _, variable := range c.StringSlice("env") {
		name, value, ok := strings.Cut(variable, "=")
		if _, twice := app.Environment[name]; !ok || twice {
			return app, fault.Errorf(fault.Usage, "write --env NAME=VALUE, each name once", "--env %.80q is not a new variable", variable)
		}
		if app.Environment == nil {
			app.Environment = map[string]string{}
		}
		app.Environment[name] = value
	}
	if c.IsSet("uid") || c.IsSet("gid") {
		uid, err := number(c, "uid")
		if err != nil {
			return app, err
		}
		gid, err := number(c, "gid")
		if err != nil {
			return app, err
		}
		app.User = &spec.User{UID: uid, GID: gid}
	}
	if c.IsSet("image") || c.IsSet("layer") {
		app.Image = &spec.Image{Reference: c.String("image"), Layers: c.StringSlice("layer")}
	}
	var err error
	app.Resources, err = resourcesOf(c)
	return app, err
}

func addApplication(d *yaml.Document, app spec.Application) (*yaml.Document, error) {
	if d.Spec.Application.Name != "" || len(d.Spec.Application.Command) > 0 {
		return nil, fault.Errorf(fault.Conflict, "change it in the file, or take it out first", "there is already an application, %q", d.Spec.Application.Name)
	}
	e := edits{d: d}
	set := func(given bool, field string, value any, change func(*spec.Application)) {
		e.set(given, "application", field, value, func(s *spec.Specification) { change(&s.Application) })
	}
	set(true, "name", app.Name, func(a *spec.Application) { a.Name = app.Name })
	set(app.Image != nil, "image", app.Image, func(a *spec.Application) { a.Image = app.Image })
	set(true, "command", app.Command, func(a *spec.Application) { a.Command = app.Command })
	set(app.Environment != nil, "environment", app.Environment, func(a *spec.Application) { a.Environment = app.Environment })
	set(app.WorkingDir != "", "workingDir", app.WorkingDir, func(a *spec.Application) { a.WorkingDir = app.WorkingDir })
	set(app.User != nil, "user", app.User, func(a *spec.Application) { a.User = app.User })
	set(len(app.Ports) > 0, "ports", app.Ports, func(a *spec.Application) { a.Ports = app.Ports })
	set(app.Resources != nil, "resources", app.Resources, func(a *spec.Application) { a.Resources = app.Resources })
	set(app.GovernanceAPI != 0, "governanceAPI", app.GovernanceAPI, func(a *spec.Application) { a.GovernanceAPI = app.GovernanceAPI })
	set(app.Start != "", "start", app.Start, func(a *spec.Application) { a.Start = app.Start })
	set(app.Restart != "", "restart", app.Restart, func(a *spec.Application) { a.Restart = app.Restart })
	return e.d, e.err
}
