package localcloud

import (
	"crypto/x509"
	"maps"
	"path/filepath"
	"slices"

	"cloister/internal/localcloud/access"
	"cloister/internal/localcloud/arm"
	"cloister/internal/localcloud/blob"
	"cloister/internal/localcloud/identity"
	"cloister/internal/localcloud/vault"
	"cloister/internal/localcloud/wire"
)

// tenant is one directory and what is its own: a subscription, in it a vault, an
// HSM and a storage account, and who may do what there. The login service, the
// management plane and the attestation service are the same for all.
type tenant struct {
	cloud     *Cloud
	name      string // "" is the one that is always there
	directory identity.Directory
	roles     *access.Book
	manager   *arm.Service
}

// tenantNames are the tenants there are to be, the one without a name first: those
// of the configuration, and those of the run before.
func (c *Cloud) tenantNames(before Endpoints) ([]string, error) {
	names := map[string]bool{"": true}
	for _, name := range c.config.Tenants {
		if err := identity.CheckTenant(name); err != nil {
			return nil, err
		}
		names[name] = true
	}
	for name := range before.Tenants {
		names[name] = true
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// ServiceOf is the name of a tenant's Vault, HSM or Blob service.
func ServiceOf(tenant, service string) string {
	if tenant == "" {
		return service
	}
	return service + "@" + tenant
}

func (t *tenant) service(name string) string { return ServiceOf(t.name, name) }

// file is a path of the tenant's own in the state directory.
func (t *tenant) file(name string) string {
	return filepath.Join(t.cloud.dir, ServiceOf(t.name, name)+".json")
}

func (t *tenant) account() string {
	if t.name == "" {
		return blob.Account
	}
	return t.name
}

// The ids of what a tenant always has, all in the resource group "simulated".
func groupOf(tenant string) string {
	return "/subscriptions/" + identity.SubscriptionOf(tenant) + "/resourceGroups/simulated"
}

func (t *tenant) vaultID() string {
	return groupOf(t.name) + "/providers/Microsoft.KeyVault/vaults/" + Vault
}

func (t *tenant) hsmID() string {
	return groupOf(t.name) + "/providers/Microsoft.KeyVault/managedHSMs/" + HSM
}

func (t *tenant) accountID() string {
	return groupOf(t.name) + "/providers/Microsoft.Storage/storageAccounts/" + t.account()
}

// open makes the tenant's services. Its ports are taken.
func (t *tenant) open(keys wire.Keys) (err error) {
	t.directory = t.cloud.identity.In(t.name)
	if t.roles, err = t.openRoles("roles", access.Azure(), azureOwner); err != nil {
		return err
	}
	if err := t.serveVault(keys, Vault, vault.KeyVault, t.roles, t.vaultID()); err != nil {
		return err
	}
	own, err := t.openRoles(HSM+"-roles", access.ManagedHSM(), hsmOwner)
	if err != nil {
		return err
	}
	if err := t.serveVault(keys, HSM, vault.ManagedHSM, own, ""); err != nil {
		return err
	}
	return t.openManager(keys)
}

// openRoles opens a book of assignments, in which the owner has roles everywhere.
func (t *tenant) openRoles(file string, roles []access.Role, owner []string) (*access.Book, error) {
	book, err := access.Open(t.file(file), roles)
	if err != nil {
		return nil, err
	}
	who, err := t.directory.AddIdentity(identity.Owner)
	if err != nil {
		return nil, err
	}
	for _, role := range owner {
		if _, err := book.Put(access.Assignment{Name: role, Scope: "/", Role: role, Principal: who.ObjectID, PrincipalType: "ServicePrincipal"}); err != nil {
			return nil, err
		}
	}
	return book, nil
}

// serveVault serves a vault of the tenant's on a port that is taken. Roles are given
// at resource, its ARM id, or for an HSM in its own book, at "".
func (t *tenant) serveVault(keys wire.Keys, name string, kind vault.Kind, roles *access.Book, resource string) error {
	c, service := t.cloud, t.service(name)
	key, err := keys.RSA(service)
	if err != nil {
		return err
	}
	leaf, err := c.ca.Leaf(service, key.Public(), c.listeners.ip(service))
	if err != nil {
		return err
	}
	v, err := vault.New(vault.Config{
		Roles: roles, Enforce: c.config.Roles, Resource: resource,
		Kind:      kind,
		Server:    c.server(service),
		URL:       c.listeners.url(service),
		Challenge: t.directory.Authority(),
		Directory: t.directory,
		Authority: c.attestation,
		Signer:    wire.Signer{Key: key, Chain: []*x509.Certificate{leaf, c.ca.Certificate}},
		File:      t.file(name),
	})
	if err != nil {
		return err
	}
	return c.serveTLS(service, v.Handler())
}

// openManager makes the tenant's part of the management plane, and its storage
// account if there are any.
func (t *tenant) openManager(keys wire.Keys) (err error) {
	c := t.cloud
	config := arm.Config{
		Server: c.server(Manager), Directory: t.directory, Roles: t.roles, Enforce: c.config.Roles,
		Challenge: t.directory.Authority(), Tenant: t.directory.ID(), Subscription: identity.SubscriptionOf(t.name),
		File:  t.file("resources"),
		Fixed: t.fixed(), Vaults: madeVaults{t, keys},
	}
	if c.config.Azurite != "" {
		if config.Containers, err = t.openBlobs(); err != nil {
			return err
		}
	}
	if c.host != nil {
		config.Runner = c.host
	}
	t.manager, err = arm.New(config)
	return err
}

func (t *tenant) openBlobs() (*blob.Service, error) {
	c, service := t.cloud, t.service(Blob)
	blobs, err := blob.New(blob.Config{
		Server: c.server(service), Directory: t.directory, Roles: t.roles, Enforce: c.config.Roles, Account: t.account(),
		Resource: t.accountID(), Azurite: c.config.Azurite, Challenge: t.directory.Authority(),
	})
	if err != nil {
		return nil, err
	}
	return blobs, c.serveTLS(service, blobs.Handler())
}

// fixed are the vault, the HSM and the storage account, as the management plane
// shows them.
func (t *tenant) fixed() map[string]map[string]any {
	group, at := groupOf(t.name), t.cloud.endpoints.in(t.name)
	show := func(id, name, kind string, properties map[string]any) map[string]any {
		properties["provisioningState"] = "Succeeded"
		return map[string]any{"id": id, "name": name, "type": kind, "location": "simulated", "properties": properties}
	}
	return map[string]map[string]any{
		group: show(group, "simulated", "Microsoft.Resources/resourceGroups", map[string]any{}),
		t.vaultID(): show(t.vaultID(), Vault, "Microsoft.KeyVault/vaults", map[string]any{"tenantId": at.Tenant, "vaultUri": at.Vault + "/",
			"enableRbacAuthorization": true, "enableSoftDelete": true, "sku": map[string]any{"family": "A", "name": "premium"}}),
		t.hsmID(): show(t.hsmID(), HSM, "Microsoft.KeyVault/managedHSMs", map[string]any{"tenantId": at.Tenant, "hsmUri": at.HSM + "/"}),
		t.accountID(): show(t.accountID(), t.account(), "Microsoft.Storage/storageAccounts", map[string]any{"allowSharedKeyAccess": false,
			"primaryEndpoints": map[string]any{"blob": at.Blob + "/"}}),
	}
}
