package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/internal/image"
	policyimage "cloister/policy/image"
	"cloister/policy/spec"

	urfave "github.com/urfave/cli/v2"
)

func imageCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "image",
		Usage:       "container images for a clean room",
		Subcommands: []*urfave.Command{imageWrapCommand()},
	}
}

// programs are what is put in front of an application, by deployment model.
var programs = map[string]string{"monolithic": "cloisterd", "distributed": "cloister-shim"}

func imageWrapCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "wrap",
		Usage:     "put the runtime, or the shim, in front of an application's image",
		ArgsUsage: "IMAGE",
		Description: "IMAGE is REPOSITORY@sha256:DIGEST, oci:DIR or docker-archive:FILE. The result is\n" +
			"an OCI layout, to be published with the tool of your registry. Whoever wraps the\n" +
			"same image with the same runtime gets the same digest. The application's own\n" +
			"entrypoint, command, environment, user and directory are printed as the\n" +
			"command that adds them to the specification: what is not there, the\n" +
			"application does not get.",
		Flags: []urfave.Flag{
			&urfave.StringFlag{Name: "runtime", Usage: "the OCI layout `DIR` of the runtime's images, as make image writes it", Required: true},
			&urfave.StringFlag{Name: "model", Usage: "`MODEL` of deployment: monolithic puts the runtime in front, distributed the shim", Value: "monolithic"},
			&urfave.StringFlag{Name: "repository", Usage: "the `NAME` under which the result will be published", Required: true},
			&urfave.StringFlag{Name: "out", Usage: "the OCI layout to write, a `DIR` that is not there", Required: true},
			jsonFlag(),
		},
		Action: imageWrap,
	}
}

// wrapReport is what `image wrap --json` prints.
type wrapReport struct {
	Digest      string           `json:"digest"`
	Layout      string           `json:"layout"`
	Application spec.Application `json:"application"` // without a name
}

func imageWrap(c *urfave.Context) error {
	args, err := cli.AnyOrder(c, "IMAGE")
	if err != nil {
		return err
	}
	if err := cli.Required(c, "runtime", "repository", "out"); err != nil {
		return err
	}
	program, ok := programs[c.String("model")]
	if !ok {
		return fault.Errorf(fault.Usage, "give monolithic or distributed", "there is no model %q", c.String("model"))
	}
	app, err := policyimage.OpenAny(c.Context, args[0])
	if err != nil {
		return err
	}
	front, err := policyimage.InLayout(c.String("runtime"), program)
	if err != nil {
		return err
	}
	w, err := image.Wrap(app.Parts, front.Parts)
	if err != nil {
		return fmt.Errorf("wrapping %s: %w", args[0], err)
	}
	r, err := reportOf(c, w)
	if err != nil {
		return fmt.Errorf("wrapping %s: %w", args[0], err)
	}
	if err := image.WriteLayout(r.Layout, image.Named{Name: "application", Image: w.Image}); err != nil {
		return err
	}
	return printResult(c, r, func(stdout, _ io.Writer) { printWrapped(stdout, r) })
}

func reportOf(c *urfave.Context, w image.Wrapped) (r wrapReport, err error) {
	entry, err := image.EntryOf(c.Context, "", c.String("repository"), w.Image)
	if err != nil {
		return r, err
	}
	a := spec.Application{Image: &spec.Image{Reference: entry.Reference, Layers: entry.Layers}, Command: w.Command, WorkingDir: w.WorkingDir}
	for _, v := range w.Environment {
		name, value, _ := strings.Cut(v, "=")
		if a.Environment == nil {
			a.Environment = map[string]string{}
		}
		a.Environment[name] = value
	}
	if w.User != nil {
		a.User = &spec.User{UID: w.User.UID, GID: w.User.GID}
	}
	return wrapReport{Digest: entry.Digest, Layout: c.String("out"), Application: a}, nil
}

// printWrapped prints the command that puts the application into a
// specification.
func printWrapped(w io.Writer, r wrapReport) {
	a := r.Application
	fmt.Fprintf(w, "digest %s\nlayout %s\n\ncloister spec add application --name NAME", r.Digest, r.Layout)
	flag := func(name, value string) { fmt.Fprintf(w, " \\\n    --%s %s", name, shellQuoted(value)) }
	flag("image", a.Image.Reference)
	for _, layer := range a.Image.Layers {
		flag("layer", layer)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Environment)) {
		flag("env", name+"="+a.Environment[name])
	}
	if a.WorkingDir != "" {
		flag("workdir", a.WorkingDir)
	}
	if a.User != nil {
		flag("uid", fmt.Sprint(a.User.UID))
		flag("gid", fmt.Sprint(a.User.GID))
	}
	fmt.Fprint(w, " \\\n    SPECIFICATION")
	if len(a.Command) == 0 {
		fmt.Fprint(w, " PROGRAM")
	}
	for _, arg := range a.Command {
		fmt.Fprint(w, " ", shellQuoted(arg))
	}
	fmt.Fprintln(w)
}

// shellQuoted writes a word as a POSIX shell reads it, and a terminal cannot act
// on it: it comes from a stranger's image.
func shellQuoted(s string) string {
	s = cli.Printable(s)
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+=:,./-_", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
