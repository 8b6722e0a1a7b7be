package main

import (
	"fmt"
	"io"

	"cloister/internal/fault"
	"cloister/policy/spec"
	"cloister/prep/provision"

	urfave "github.com/urfave/cli/v2"
)

// identityCommand is "cloister identity": who a clean room is to the cloud.
func identityCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "identity",
		Usage:       "who a clean room is to the cloud",
		Subcommands: []*urfave.Command{identityCreateCommand(), identityFederateCommand(), identityAdmitCommand()},
	}
}

func identityCreateCommand() *urfave.Command {
	return &urfave.Command{
		Name: "create", Usage: "see to it that there is a managed identity, and print what the specification needs of it", ArgsUsage: "NAME",
		Description: "Before or after the specification is translated: an identity is no part of what is\n" +
			"measured but for its ids. Creating again changes nothing. An identity opens nothing\n" +
			"by itself: roles give it access, and the KEK is released to attested code alone. One\n" +
			"for each source and sink keeps a party's resources from the others' identities.\n\n" +
			"JSON: resourceId, clientId, principalId, tenantId, changed.",
		Flags: append(append(cloudFlags(), accessFlags()[:1]...),
			text("resource-group", "the resource `GROUP` that it is made in, which exists"),
			text("location", "the Azure `REGION`"),
			jsonFlag()),
		Action: action(identityCreate, "--subscription", "--resource-group", "--location", "NAME"),
	}
}

func identityCreate(c *urfave.Context, args []string) error {
	s := spec.Specification{Kind: spec.Kind(c.String("kind")), Cloud: spec.Cloud(c.String("cloud"))}
	if managers[s.Cloud] == "" {
		return fault.Errorf(fault.Usage, "use public, usgovernment or china", "--cloud %.80q is not known", s.Cloud)
	}
	cred, err := signIn(s)
	if err != nil {
		return err
	}
	client := provision.New(provision.Options{Credential: cred, PrivateCloud: s.Kind == spec.Simulated, Manager: manager(s.Kind, s.Cloud, c.String("subscription"))})
	i, err := client.ApplyIdentity(c.Context, c.String("resource-group"), args[0], c.String("location"))
	if err != nil {
		return err
	}
	return printResult(c, i, func(stdout, stderr io.Writer) {
		fmt.Fprintf(stdout, "client    %s\nprincipal %s\ntenant    %s\nresource  %s\n", i.ClientID, i.PrincipalID, i.TenantID, i.ResourceID)
		fmt.Fprintf(stderr, "%s\ncloister spec add identity --name %s --client-id %s --resource-id %s spec.yaml\n", made(i.Changed), args[0], i.ClientID, i.ResourceID)
	})
}
