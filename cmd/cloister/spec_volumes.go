package main

import (
	"cloister/internal/cli"
	"cloister/policy/spec"
	"cloister/policy/spec/yaml"

	urfave "github.com/urfave/cli/v2"
)

func volumeFlags() []urfave.Flag {
	return []urfave.Flag{
		text("name", "the volume's `NAME` in the specification"),
		text("party", "the `PARTY` that owns it"),
		text("volume", "its volume `ID`, 32 hexadecimal digits"),
		text("store", "where it is: a blob `URL`, or for kind simulated a directory"),
		text("mount", "the `DIR` at which the application sees it"),
		text("kek", "`NAME` of the key that wraps its DEK"),
		text("vault", "`URL` of the vault or HSM that holds the key"),
		text("secret", "`URL` of the secret that holds the wrapped DEK"),
		text("broker", "instead of these three: the key broker that holds both, `URL[,resource=R][,kek=R][,ca=FILE]`; R is REPOSITORY/TYPE/TAG, else PARTY/wrapped-dek/NAME and PARTY/kek/NAME; FILE is the root of its certificate, else the system's are taken"),
		text("identity", "the identity `NAME` to use at the store and the vaults"),
	}
}

// newSource reads FILE and the flags, which must say where the keys are in one
// way or the other.
func newSource(c *urfave.Context) (file string, s spec.Source, err error) {
	args, err := anyOrder(c, nil, "FILE")
	if err != nil {
		return "", s, err
	}
	required := []string{"name", "party", "volume", "store", "mount"}
	if c.String("broker") == "" {
		required = append(required, "kek", "vault", "secret")
	}
	if err := cli.Required(c, required...); err != nil {
		return "", s, err
	}
	s = spec.Source{
		Name: c.String("name"), Party: c.String("party"), Volume: c.String("volume"), Store: c.String("store"), Mount: c.String("mount"),
		Key:      spec.Key{KEK: c.String("kek"), Vault: c.String("vault"), Secret: c.String("secret")},
		Identity: c.String("identity"), Fetch: c.String("fetch"),
	}
	if text := c.String("broker"); text != "" {
		s.Key.Broker, err = brokerOf(text, s)
	}
	return args[0], s, err
}

func addSourceCommand(name, usage string, list func(*spec.Specification) *[]spec.Source) *urfave.Command {
	field := map[string]string{"code": "code", "datasource": "datasources"}[name]
	return &urfave.Command{
		Name: name, Usage: usage, ArgsUsage: "FILE",
		Flags: append(volumeFlags(), text("fetch", "`WHEN` it is fetched: on-demand, or whole, all of it before the application starts; on-demand when not given")),
		Action: func(c *urfave.Context) error {
			file, source, err := newSource(c)
			if err != nil {
				return err
			}
			return editSpec(file, func(d *yaml.Document) (*yaml.Document, error) {
				return d.Append(field, source, func(s *spec.Specification) { *list(s) = append(*list(s), source) })
			})
		},
	}
}

func addSinkCommand() *urfave.Command {
	return &urfave.Command{
		Name: "datasink", Usage: "a sealed volume that the application writes", ArgsUsage: "FILE",
		Flags: append(volumeFlags(), &urfave.StringSliceFlag{Name: "recipient", Usage: "a `PARTY`, beside the owner, who can open it; may be repeated"},
			text("publish", "`WHEN` it goes to the store: as-written, or \"at-end, padded\"; as-written when not given")),
		Action: func(c *urfave.Context) error {
			file, v, err := newSource(c)
			if err != nil {
				return err
			}
			sink := spec.Sink{Name: v.Name, Party: v.Party, Volume: v.Volume, Store: v.Store, Mount: v.Mount, Key: v.Key,
				Identity: v.Identity, Recipients: c.StringSlice("recipient"), Publish: c.String("publish")}
			return editSpec(file, func(d *yaml.Document) (*yaml.Document, error) {
				return d.Append("datasinks", sink, func(s *spec.Specification) { s.DataSinks = append(s.DataSinks, sink) })
			})
		},
	}
}
