package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/spec"
	"cloister/prep/provision"

	urfave "github.com/urfave/cli/v2"
)

// graphs are the directories' interfaces of Azure's clouds, and their login
// services. https://learn.microsoft.com/graph/deployments
var graphs = map[spec.Cloud]provision.Directory{
	spec.PublicCloud:       {Endpoint: "https://graph.microsoft.com/v1.0", Scope: "https://graph.microsoft.com/.default", Authority: "https://login.microsoftonline.com"},
	spec.USGovernmentCloud: {Endpoint: "https://graph.microsoft.us/v1.0", Scope: "https://graph.microsoft.us/.default", Authority: "https://login.microsoftonline.us"},
	spec.ChinaCloud:        {Endpoint: "https://microsoftgraph.chinacloudapi.cn/v1.0", Scope: "https://microsoftgraph.chinacloudapi.cn/.default", Authority: "https://login.chinacloudapi.cn"},
}

// directoryClient signs in to the tenant of AZURE_TENANT_ID, or of `az login`.
func directoryClient(c *urfave.Context) (*provision.Client, error) {
	s := spec.Specification{Kind: spec.Kind(c.String("kind")), Cloud: spec.Cloud(c.String("cloud"))}
	where := directoryOf(s)
	if where == (provision.Directory{}) {
		return nil, fault.Errorf(fault.Usage, "use public, usgovernment or china", "--cloud %.80q is not known", s.Cloud)
	}
	cred, err := signIn(s)
	if err != nil {
		return nil, err
	}
	return provision.New(provision.Options{Credential: cred, PrivateCloud: s.Kind == spec.Simulated, Directory: where}), nil
}

// directoryOf is the directory's interface in a specification's cloud, nothing where
// the cloud is not known. The simulated one is where `cloister local env` says.
func directoryOf(s spec.Specification) provision.Directory {
	where, ok := graphs[cmp.Or(s.Cloud, spec.PublicCloud)]
	if ok && s.Kind == spec.Simulated {
		host := strings.TrimSuffix(os.Getenv("AZURE_AUTHORITY_HOST"), "/")
		where.Endpoint, where.Authority = host+"/v1.0", host
	}
	return where
}

func cloudFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: "kind", Value: string(spec.ACI), Usage: "as of the specification: aci, aks, cvm, or simulated for cloister local"},
		&urfave.StringFlag{Name: "cloud", Value: string(spec.PublicCloud), Usage: "Azure's `CLOUD`: public, usgovernment or china"},
	}
}

func identityFederateCommand() *urfave.Command {
	return &urfave.Command{
		Name: "federate", Usage: "make the multi-tenant application that a managed identity stands for in other tenants", ArgsUsage: "NAME",
		Description: "By whom the clean room's identity is, in its tenant; the other parties then admit the\n" +
			"application to theirs. No secret is made: the application believes tokens of this\n" +
			"managed identity alone. Again changes nothing.\n\nJSON: clientId, changed.",
		Flags: append(cloudFlags(), text("principal", "the managed identity's object `ID`, as identity create prints it"),
			text("tenant-id", "the `ID` of its tenant"), jsonFlag()),
		Action: action(func(c *urfave.Context, args []string) error {
			for _, flag := range []string{"principal", "tenant-id"} {
				if err := provision.CheckPrincipal(c.String(flag)); err != nil {
					return fmt.Errorf("--%s: %w", flag, err)
				}
			}
			client, err := directoryClient(c)
			if err != nil {
				return err
			}
			a, err := client.ApplyApplication(c.Context, args[0], provision.Identity{PrincipalID: c.String("principal"), TenantID: c.String("tenant-id")})
			if err != nil {
				return err
			}
			return printResult(c, a, func(stdout, stderr io.Writer) {
				fmt.Fprintln(stdout, a.ClientID)
				fmt.Fprintf(stderr, "%s\nthe parties of other tenants give: cloister identity admit %s\n", made(a.Changed), a.ClientID)
			})
		}, "--principal", "--tenant-id", "NAME"),
	}
}

func identityAdmitCommand() *urfave.Command {
	return &urfave.Command{
		Name: "admit", Usage: "let another tenant's application be somebody in this one, for roles to be given to", ArgsUsage: "CLIENT-ID",
		Description: "By a party whose vault and storage are in another tenant than the clean room's\n" +
			"identity. By itself it opens nothing: provision apply --principal gives the roles.\n" +
			"Again changes nothing.\n\nJSON: principal, changed.",
		Flags: append(cloudFlags(), jsonFlag()),
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, nil, "CLIENT-ID")
			if err != nil {
				return err
			}
			client, err := directoryClient(c)
			if err != nil {
				return err
			}
			principal, changed, err := client.Admit(c.Context, args[0])
			if err != nil {
				return err
			}
			return printResult(c, map[string]any{"principal": principal, "changed": changed}, func(stdout, stderr io.Writer) {
				fmt.Fprintln(stdout, principal)
				fmt.Fprintf(stderr, "%s\ncloister spec add identity --name NAME --client-id %s --tenant-id THIS-TENANT --resource-id MANAGED-IDENTITY spec.yaml\n", made(changed), args[0])
			})
		},
	}
}
