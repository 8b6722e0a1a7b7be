package provision

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"cloister/internal/fault"
)

// Versions of the interfaces of the management plane that are used.
const (
	vaultVersion        = "2023-07-01"
	subscriptionVersion = "2022-12-01"
	hsmVersion          = "2023-07-01"
	storageVersion      = "2023-05-01"
	identityVersion     = "2023-01-31"
	assignmentVersion   = "2022-04-01"
	hsmRolesVersion     = "7.4" // of a Managed HSM's own
)

// Manager is the management plane of one subscription.
type Manager struct {
	// Endpoint is its address, https://HOST; Scope what a token for it is asked for.
	Endpoint, Scope string
	Subscription    string // a UUID
}

func (c *Client) manage(ctx context.Context, method, path, version string, in, out any) error {
	return newREST(c.opts.Credential, c.opts.Manager.Scope, c.opts.Client).
		do(ctx, method, strings.TrimSuffix(c.opts.Manager.Endpoint, "/")+path+"?api-version="+version, in, out)
}

// listed is a resource in a list of the management plane, as far as it is looked at.
type listed struct {
	ID         string `json:"id"`
	Properties struct {
		VaultURI         string `json:"vaultUri"`
		HSMURI           string `json:"hsmUri"`
		PrimaryEndpoints struct {
			Blob string `json:"blob"`
		} `json:"primaryEndpoints"`
	} `json:"properties"`
}

// find returns the id of the resource of a type that serves an address, "" where
// the subscription has none. The address is what the specification holds; the id
// is what roles are given on.
func (c *Client) find(ctx context.Context, kind, version, address string) (string, error) {
	next := strings.TrimSuffix(c.opts.Manager.Endpoint, "/") + "/subscriptions/" + c.opts.Manager.Subscription + "/providers/" + kind + "?api-version=" + version
	for next != "" {
		if !strings.HasPrefix(next, strings.TrimSuffix(c.opts.Manager.Endpoint, "/")+"/") {
			return "", fault.Errorf(fault.Refused, "", "the management plane's list goes on at another host: %.200q", next)
		}
		var page struct {
			Value    []listed `json:"value"`
			NextLink string   `json:"nextLink"`
		}
		err := newREST(c.opts.Credential, c.opts.Manager.Scope, c.opts.Client).do(ctx, http.MethodGet, next, nil, &page)
		if err != nil {
			return "", explain(err, "looking for the "+kind+" at "+address, "Reader on the subscription")
		}
		for _, r := range page.Value {
			for _, at := range []string{r.Properties.VaultURI, r.Properties.HSMURI, r.Properties.PrimaryEndpoints.Blob} {
				if at != "" && sameAddress(at, address) {
					return r.ID, nil
				}
			}
		}
		next = page.NextLink
	}
	return "", nil
}

func sameAddress(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, "/"), strings.TrimSuffix(b, "/"))
}

// vaultID returns the resource of a vault's address; hsm says that it is a
// Managed HSM, whose roles are its own.
func (c *Client) vaultID(ctx context.Context, address string) (id string, hsm bool, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", false, err
	}
	if strings.Contains(u.Hostname(), ".managedhsm.") {
		return "", true, nil
	}
	if id, err = c.find(ctx, "Microsoft.KeyVault/vaults", vaultVersion, address); err != nil || id != "" {
		return id, false, err
	}
	if id, err = c.find(ctx, "Microsoft.KeyVault/managedHSMs", hsmVersion, address); err != nil || id != "" {
		return "", true, err
	}
	return "", false, c.absent("vault", address)
}

// containerID returns the resource of a container's address, which need not be
// there yet.
func (c *Client) containerID(ctx context.Context, address string) (string, error) {
	account, name := address[:strings.LastIndexByte(address, '/')], address[strings.LastIndexByte(address, '/')+1:]
	id, err := c.find(ctx, "Microsoft.Storage/storageAccounts", storageVersion, account)
	if err == nil && id == "" {
		err = c.absent("storage account", account)
	}
	return id + "/blobServices/default/containers/" + name, err
}

func (c *Client) absent(what, address string) error {
	hint := "create it"
	if what == "vault" {
		hint = "have it made with --vault-group and --vault-location"
	}
	return fault.Errorf(fault.NotFound, hint+", name its subscription with --subscription, or ask for the role Reader there",
		"subscription %s shows no %s at %s", c.opts.Manager.Subscription, what, address)
}

// Identity is a managed identity: who a clean room is to the cloud.
type Identity struct {
	ResourceID  string `json:"resourceId"`
	ClientID    string `json:"clientId"`
	PrincipalID string `json:"principalId"` // the object id, which roles are given to
	TenantID    string `json:"tenantId"`
	Changed     bool   `json:"changed"`
}

type identityResource struct {
	ID         string   `json:"id"`
	Properties Identity `json:"properties"`
}

func (r identityResource) identity(changed bool) (Identity, error) {
	i := r.Properties
	i.ResourceID, i.Changed = r.ID, changed
	if i.ResourceID == "" || i.ClientID == "" || i.PrincipalID == "" {
		return i, fault.Errorf(fault.Refused, "", "the management plane's answer names no managed identity")
	}
	return i, nil
}

// GetIdentity returns the managed identity of a resource id.
func (c *Client) GetIdentity(ctx context.Context, id string) (Identity, error) {
	var r identityResource
	if err := c.manage(ctx, http.MethodGet, id, identityVersion, nil, &r); err != nil {
		return Identity{}, explain(err, "looking for the managed identity "+id, "Reader on it")
	}
	return r.identity(false)
}

// ApplyIdentity sees to it that there is a managed identity of that name in a
// resource group. One that is there stays as it is.
func (c *Client) ApplyIdentity(ctx context.Context, group, name, location string) (Identity, error) {
	id := "/subscriptions/" + c.opts.Manager.Subscription + "/resourceGroups/" + group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + name
	found, err := c.GetIdentity(ctx, id)
	if err == nil || !isNotFound(err) {
		return found, err
	}
	var r identityResource
	if err := c.manage(ctx, http.MethodPut, id, identityVersion, map[string]string{"location": location}, &r); err != nil {
		return Identity{}, explain(err, "making the managed identity "+id, "Managed Identity Contributor on the resource group")
	}
	return r.identity(true)
}
