package main

import (
	"cloister/policy/spec"
	"cloister/policy/spec/yaml"

	urfave "github.com/urfave/cli/v2"
)

func specAddCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "add",
		Usage: "add to a specification; comments and layout stay",
		Subcommands: []*urfave.Command{
			addPartyCommand(), addIdentityCommand(), addApplicationCommand(),
			addSourceCommand("code", "a sealed volume of code or models, mounted first", func(s *spec.Specification) *[]spec.Source { return &s.Code }),
			addSourceCommand("datasource", "a sealed volume that the application reads", func(s *spec.Specification) *[]spec.Source { return &s.DataSources }),
			addSinkCommand(), addEndpointCommand(), addRegistryCommand(),
		},
	}
}

func text(name, usage string) *urfave.StringFlag { return &urfave.StringFlag{Name: name, Usage: usage} }

func addPartyCommand() *urfave.Command {
	return &urfave.Command{
		Name: "party", Usage: "somebody whose agreement is needed", ArgsUsage: "FILE",
		Flags: []urfave.Flag{
			text("name", "the party's `NAME`"),
			text("signing-key", "public `KEY` that signs its statements: a party's document, a PEM file, or base64"),
			text("recipient-key", "public `KEY` that results are sealed for: a party's document, a PEM file, or base64"),
		},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, []string{"name", "signing-key"}, "FILE")
			if err != nil {
				return err
			}
			party := spec.Party{Name: c.String("name")}
			if party.SigningKey, err = publicKey(c.String("signing-key"), signingKey); err != nil {
				return err
			}
			if party.RecipientKey, err = publicKey(c.String("recipient-key"), recipientKey); err != nil {
				return err
			}
			return editSpec(args[0], func(d *yaml.Document) (*yaml.Document, error) {
				return d.Append("parties", party, func(s *spec.Specification) { s.Parties = append(s.Parties, party) })
			})
		},
	}
}

func addIdentityCommand() *urfave.Command {
	return &urfave.Command{
		Name: "identity", Usage: "a managed identity of the clean room", ArgsUsage: "FILE",
		Flags: []urfave.Flag{
			text("name", "the `NAME` that sources and sinks use"),
			text("client-id", "the identity's client `UUID`"),
			text("tenant-id", "the tenant's `UUID`, where it is not the resource's own"),
			text("resource-id", "the identity's Azure resource `ID`, which a template attaches to the container"),
		},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, []string{"name", "client-id"}, "FILE")
			if err != nil {
				return err
			}
			id := spec.Identity{Name: c.String("name"), ClientID: c.String("client-id"), TenantID: c.String("tenant-id"), ResourceID: c.String("resource-id")}
			return editSpec(args[0], func(d *yaml.Document) (*yaml.Document, error) {
				return d.Append("identities", id, func(s *spec.Specification) { s.Identities = append(s.Identities, id) })
			})
		},
	}
}
