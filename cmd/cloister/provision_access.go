package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	enclaveazure "cloister/enclave/azure"
	"cloister/internal/fault"
	"cloister/internal/localcloud"
	"cloister/policy/spec"
	"cloister/prep/provision"

	urfave "github.com/urfave/cli/v2"
)

// accessFlags say whom roles are given to, and where.
func accessFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: "subscription", EnvVars: []string{"AZURE_SUBSCRIPTION_ID"}, Usage: "the `ID` of the subscription that vault and storage account are in"},
		&urfave.StringSliceFlag{Name: "principal", Usage: "give the roles to the object `ID`, or IDENTITY=ID for one identity of the specification; " +
			"without, to the managed identity of the specification's resource id, or to the application that was admitted in its place"},
	}
}

// vaultFlags have a Key Vault made where the party has none.
func vaultFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: "vault-group", Usage: "where there is no Key Vault at the specification's address, make one of SKU premium in the resource `GROUP`"},
		&urfave.StringFlag{Name: "vault-location", Usage: "with --vault-group: the Azure `REGION`"},
	}
}

// vaultsToMake is nil where none is to be made.
func vaultsToMake(c *urfave.Context) (*provision.Vaults, error) {
	group, location := c.String("vault-group"), c.String("vault-location")
	if (group == "") != (location == "") {
		return nil, fault.Errorf(fault.Usage, "give both", "--vault-group and --vault-location go together")
	}
	if group == "" {
		return nil, nil
	}
	return &provision.Vaults{Group: group, Location: location}, nil
}

// accessHelp is of every command that gives or takes roles.
const accessHelp = "Roles are given on exactly the key, the secret and the container of a volume, and\n" +
	"only where it is known whom to: by --principal, or by the resource id of the\n" +
	"identity in the specification. Where the specification gives the identity a tenant,\n" +
	"that is the service principal of the application that was admitted to it.\n"

// managers are the management planes of Azure's clouds (azcore, cloud.go).
var managers = map[spec.Cloud]string{
	"": "https://management.azure.com", spec.PublicCloud: "https://management.azure.com",
	spec.USGovernmentCloud: "https://management.usgovcloudapi.net", spec.ChinaCloud: "https://management.chinacloudapi.cn",
}

// manager is the management plane of a specification's cloud. The simulated one is
// where `cloister local env` says; nothing else takes an address from there.
func manager(kind spec.Kind, cloud spec.Cloud, subscription string) provision.Manager {
	m := provision.Manager{Endpoint: managers[cloud], Scope: managers[cloud] + "/.default", Subscription: subscription}
	if kind == spec.Simulated {
		m.Endpoint, m.Scope = os.Getenv(localcloud.ManagerVariable), "https://management.azure.com/.default"
	}
	return m
}

// hsmScope is what a token for a Managed HSM is asked for.
func hsmScope(s spec.Specification) (string, error) {
	where, err := enclaveazure.CloudOf(s)
	if where.HSM == "" {
		where.HSM = "managedhsm.azure.net"
	}
	return "https://" + where.HSM + "/.default", err
}

// principalOf returns whom a volume's roles are given to, "" where that is not
// known, and then says so.
func (o *owner) principalOf(ctx context.Context, c *urfave.Context, s spec.Specification, v spec.Source) (string, error) {
	identity, known := volumeIdentity(s, v.Identity)
	for _, p := range c.StringSlice("principal") {
		name, id, named := strings.Cut(p, "=")
		if !named {
			name, id = identity.Name, p
		}
		if name == identity.Name {
			return id, provision.CheckPrincipal(id)
		}
	}
	if known && identity.TenantID != "" {
		id, err := o.vaults.Principal(ctx, identity.ClientID)
		if err != nil && fault.KindOf(err) != fault.NotFound {
			err = fault.Errorf(fault.KindOf(err), "or give --principal "+identity.Name+"=OBJECT-ID, which cloister identity admit prints", "%w", err)
		}
		return id, err
	}
	if !known || identity.ResourceID == "" || c.String("subscription") == "" {
		fmt.Fprintf(c.App.ErrWriter, "%s: no roles are looked at or given: --principal, or an identity with a resource id, and --subscription say to whom\n", v.Name)
		return "", nil
	}
	found, err := o.vaults.GetIdentity(ctx, identity.ResourceID)
	if err != nil {
		return "", fault.Errorf(fault.KindOf(err), "where the identity is in another tenant, give --principal", "%w", err)
	}
	return found.PrincipalID, nil
}

// volumeIdentity is the named identity, or the only one.
func volumeIdentity(s spec.Specification, name string) (spec.Identity, bool) {
	for _, i := range s.Identities {
		if i.Name == name || name == "" && len(s.Identities) == 1 {
			return i, true
		}
	}
	return spec.Identity{}, false
}

// containerOf is the address of the blob container in a store's, "" for a
// directory. On a loopback address the account comes first in the path.
func containerOf(store string) string {
	u, err := url.Parse(store)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	keep := 1
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		keep = 2
	}
	parts := strings.SplitN(strings.Trim(u.Path, "/"), "/", keep+1)
	if len(parts) < keep || parts[keep-1] == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host + "/" + strings.Join(parts[:keep], "/")
}

// isSink tells whether the clean room writes a volume.
func isSink(s spec.Specification, name string) bool {
	for _, k := range s.DataSinks {
		if k.Name == name {
			return true
		}
	}
	return false
}
