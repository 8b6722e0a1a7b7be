package localcloud

import (
	"path/filepath"

	"cloister/internal/localcloud/access"
	"cloister/internal/localcloud/arm"
	"cloister/internal/localcloud/blob"
	"cloister/internal/localcloud/host"
	"cloister/internal/localcloud/identity"
	"cloister/internal/localcloud/platform"
)

// The ids of what the cloud always has, all in the resource group "simulated".
var (
	group     = "/subscriptions/" + identity.Subscription() + "/resourceGroups/simulated"
	VaultID   = group + "/providers/Microsoft.KeyVault/vaults/" + Vault
	HSMID     = group + "/providers/Microsoft.KeyVault/managedHSMs/" + HSM
	AccountID = group + "/providers/Microsoft.Storage/storageAccounts/" + blob.Account
)

// The roles of the identity "owner": what a person has who set all this up.
var (
	azureOwner = []string{"8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "00482a5a-887f-4fb3-b363-3b7fe8e74483", "b7e6dc6d-f1e8-4753-8033-0f276bb0955b"}
	hsmOwner   = []string{"a290e904-7015-4bba-90c8-60543313cdb4", "515eb02d-2335-4d2d-92f2-b1cbdf9c3778", "21dbd100-6940-42c2-9190-5d6cb909625b"}
)

// openRoles opens a book of assignments, in which the owner has roles everywhere.
func (c *Cloud) openRoles(file string, roles []access.Role, owner []string) (*access.Book, error) {
	book, err := access.Open(filepath.Join(c.dir, file), roles)
	if err != nil {
		return nil, err
	}
	who, err := c.identity.AddIdentity(identity.Owner)
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

// openManager opens the management plane, and the blob service if there is one.
func (c *Cloud) openManager() error {
	config := arm.Config{
		Server: c.servers[Manager], Directory: c.identity, Roles: c.roles, Enforce: c.config.Roles,
		Challenge: c.endpoints.Authority + "/" + identity.Tenant, Tenant: identity.Tenant,
		File:  filepath.Join(c.dir, "resources.json"),
		Fixed: c.fixed(),
	}
	if c.config.Azurite != "" {
		blobs, err := c.openBlobs()
		if err != nil {
			return err
		}
		config.Containers = blobs
	}
	if c.host != nil {
		config.Runner = c.host
	}
	manager, err := arm.New(config)
	if err != nil {
		return err
	}
	return c.serveTLS(Manager, manager.Handler())
}

// openHost is where container groups run, if they do.
func (c *Cloud) openHost() (err error) {
	if c.config.Runtime == "" {
		return nil
	}
	c.host, err = host.New(host.Config{
		Program: c.config.Runtime, Dir: filepath.Join(c.dir, "groups"), Remove: c.RemoveGuest,
		Launch:    func(dir string, policy []byte) error { return c.LaunchGuest(dir, platform.GuestConfig{Policy: policy}) },
		Variables: func() []string { return c.endpoints.forGroups() },
	})
	return err
}

func (c *Cloud) openBlobs() (*blob.Service, error) {
	blobs, err := blob.New(blob.Config{
		Server: c.servers[Blob], Directory: c.identity, Roles: c.roles, Enforce: c.config.Roles,
		Resource: AccountID, Azurite: c.config.Azurite, Challenge: c.endpoints.Authority + "/" + identity.Tenant,
	})
	if err != nil {
		return nil, err
	}
	return blobs, c.serveTLS(Blob, blobs.Handler())
}

// fixed are the vault, the HSM and the storage account, as the management plane
// shows them.
func (c *Cloud) fixed() map[string]map[string]any {
	show := func(id, name, kind string, properties map[string]any) map[string]any {
		properties["provisioningState"] = "Succeeded"
		return map[string]any{"id": id, "name": name, "type": kind, "location": "simulated", "properties": properties}
	}
	return map[string]map[string]any{
		group: show(group, "simulated", "Microsoft.Resources/resourceGroups", map[string]any{}),
		VaultID: show(VaultID, Vault, "Microsoft.KeyVault/vaults", map[string]any{"tenantId": identity.Tenant, "vaultUri": c.endpoints.Vault + "/",
			"enableRbacAuthorization": true, "enableSoftDelete": true, "sku": map[string]any{"family": "A", "name": "premium"}}),
		HSMID: show(HSMID, HSM, "Microsoft.KeyVault/managedHSMs", map[string]any{"tenantId": identity.Tenant, "hsmUri": c.endpoints.HSM + "/"}),
		AccountID: show(AccountID, blob.Account, "Microsoft.Storage/storageAccounts", map[string]any{"allowSharedKeyAccess": false,
			"primaryEndpoints": map[string]any{"blob": c.endpoints.Blob + "/"}}),
	}
}
