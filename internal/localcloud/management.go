package localcloud

import (
	"net/http"
	"path/filepath"
	"strings"

	"cloister/internal/localcloud/arm"
	"cloister/internal/localcloud/blob"
	"cloister/internal/localcloud/host"
	"cloister/internal/localcloud/identity"
	"cloister/internal/localcloud/platform"
)

// The ids of what the tenant that is always there has.
var (
	group     = groupOf("")
	VaultID   = group + "/providers/Microsoft.KeyVault/vaults/" + Vault
	HSMID     = group + "/providers/Microsoft.KeyVault/managedHSMs/" + HSM
	AccountID = group + "/providers/Microsoft.Storage/storageAccounts/" + blob.Account
)

// The roles of the identity "owner": what a person has who set all this up.
var (
	azureOwner = []string{"8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "00482a5a-887f-4fb3-b363-3b7fe8e74483", "b7e6dc6d-f1e8-4753-8033-0f276bb0955b"}
	hsmOwner   = []string{"a290e904-7015-4bba-90c8-60543313cdb4", "515eb02d-2335-4d2d-92f2-b1cbdf9c3778", "21dbd100-6940-42c2-9190-5d6cb909625b"}
)

// openManager serves the management plane: one address for all tenants, told
// apart by the subscription that a request names. What names none, or one that is
// not there, goes to the tenant that is always there, to be refused.
func (c *Cloud) openManager() error {
	bySubscription := map[string]http.Handler{}
	for _, t := range c.tenants {
		bySubscription[identity.SubscriptionOf(t.name)] = t.manager.Handler()
	}
	other := c.tenants[0].manager.Handler()
	return c.serveTLS(Manager, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		of, _ := arm.SubscriptionOf(r.URL.Path)
		if h, ok := bySubscription[strings.ToLower(of)]; ok {
			h.ServeHTTP(w, r)
			return
		}
		other.ServeHTTP(w, r)
	}))
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
