package cli

import (
	"fmt"
	"math"
	"strings"

	"cloister/internal/fault"

	"github.com/urfave/cli/v2"
)

// prepare makes urfave/cli fail as everything else here does: it would print
// its help on standard output, and end with a code of its own, for a command
// that is not there or a flag that is missing.
func prepare(app *cli.App) {
	if app.Action == nil && len(app.Commands) > 0 {
		app.Action = func(c *cli.Context) error {
			if c.NArg() == 0 {
				return cli.ShowAppHelp(c)
			}
			return unknownCommand(c, app.Name)
		}
	}
	app.OnUsageError = usageError
	prepareFlags(app.Flags)
	for _, c := range app.Commands {
		prepareCommand(c)
	}
}

func prepareCommand(command *cli.Command) {
	command.OnUsageError = usageError
	command.HideHelpCommand = true // one for the whole program is enough
	required := prepareFlags(command.Flags)
	if len(command.Subcommands) > 0 && command.Action == nil {
		command.Action = group
	}
	if run := command.Action; len(required) > 0 {
		command.Action = func(c *cli.Context) error {
			if err := Required(c, required...); err != nil {
				return err
			}
			return run(c)
		}
	}
	for _, c := range command.Subcommands {
		prepareCommand(c)
	}
}

// prepareFlags takes over the check for required flags, and keeps "(default:
// false)" out of every help text.
func prepareFlags(flags []cli.Flag) (required []string) {
	for _, f := range flags {
		switch f := f.(type) {
		case *cli.BoolFlag:
			f.DisableDefaultText = true
		case *cli.StringFlag:
			if f.Required {
				f.Required, required = false, append(required, f.Name)
			}
		}
	}
	return required
}

// group is the action of a command that only has others below it.
func group(c *cli.Context) error {
	if c.NArg() > 0 {
		return unknownCommand(c, c.Command.HelpName)
	}
	names := make([]string, len(c.Command.Subcommands))
	for i, s := range c.Command.Subcommands {
		names[i] = s.Name
	}
	return fault.Errorf(fault.Usage, "see "+c.Command.HelpName+" --help", "%s takes a command: %s", c.Command.HelpName, strings.Join(names, ", "))
}

func unknownCommand(c *cli.Context, above string) error {
	return fault.Errorf(fault.Usage, above+" --help lists the commands", "%s has no command %q", above, c.Args().First())
}

func usageError(c *cli.Context, err error, _ bool) error {
	return fault.Errorf(fault.Usage, seeHelp(c), "%w", err)
}

func seeHelp(c *cli.Context) string {
	if c.Command != nil && c.Command.HelpName != "" {
		return "see " + c.Command.HelpName + " --help"
	}
	return "see " + c.App.Name + " --help"
}

// Required refuses a command without a value for each of the named flags, with
// one error that names them all.
func Required(c *cli.Context, names ...string) error {
	var missing []string
	for _, name := range names {
		if c.String(name) == "" {
			missing = append(missing, "--"+name)
		}
	}
	if missing == nil {
		return nil
	}
	return fault.Errorf(fault.Usage, seeHelp(c), "%s needs %s", c.Command.HelpName, strings.Join(missing, ", "))
}

// Args returns the command's positional arguments when there are as many as
// names, and otherwise a usage error that says what it takes. A last name with
// "..." stands for one or more, and in brackets for any number.
func Args(c *cli.Context, names ...string) ([]string, error) {
	return checkArgs(c, c.Args().Slice(), names)
}

func checkArgs(c *cli.Context, args, names []string) ([]string, error) {
	least, most, takes := len(names), len(names), "no arguments"
	if len(names) > 0 {
		takes = strings.Join(names, " ")
		if last := names[len(names)-1]; strings.Contains(last, "...") {
			most = math.MaxInt
			if strings.HasPrefix(last, "[") {
				least--
			}
		}
	}
	if len(args) < least || len(args) > most {
		return nil, fault.Errorf(fault.Usage, seeHelp(c), "%s takes %s, got %s", c.Command.HelpName, takes, count(len(args)))
	}
	return args, nil
}

func count(args int) string {
	if args == 1 {
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", args)
}

// AnyOrder is Args for a command whose flags may stand behind its arguments
// too, where urfave/cli does not read them.
func AnyOrder(c *cli.Context, names ...string) ([]string, error) {
	var args []string
	rest := c.Args().Slice()
	for len(rest) > 0 {
		arg := rest[0]
		rest = rest[1:]
		name, value, given := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if !strings.HasPrefix(arg, "--") || name == "" {
			args = append(args, arg)
			continue
		}
		if !given {
			if value = "true"; !isBool(c, name) && len(rest) > 0 {
				value, rest = rest[0], rest[1:]
			}
		}
		if err := set(c, name, value); err != nil {
			return nil, fault.Errorf(fault.Usage, seeHelp(c), "flag --%s: %w", name, err)
		}
	}
	return checkArgs(c, args, names)
}

// set gives a flag of the command, and of no other above it, a value.
func set(c *cli.Context, name, value string) error {
	for _, f := range c.Command.Flags {
		for _, known := range f.Names() {
			if known == name && name != "help" {
				return c.Set(name, value)
			}
		}
	}
	return fmt.Errorf("%s has none of that name", c.Command.HelpName)
}

func isBool(c *cli.Context, name string) bool {
	for _, f := range c.Command.Flags {
		if b, ok := f.(*cli.BoolFlag); ok && b.Name == name {
			return true
		}
	}
	return false
}
