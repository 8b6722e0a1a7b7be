package localcloud

import (
	"net"
	"net/url"
	"strings"
	"testing"

	"cloister/internal/localcloud/identity"
)

// A vault is a resource: made, soft-deleted, in the way of its own name until it is
// recovered or purged, and there again after a restart with what is in it.
func TestVaultsByTheManagementPlane(t *testing.T) {
	dir := newDir(t)
	start := func() *Cloud {
		t.Helper()
		c, err := Start(t.Context(), Config{Dir: dir, Roles: true, Tenants: []string{"hospital"}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := start()
	t.Cleanup(func() { c.Close() })
	m := c.Endpoints().Manager
	at := func(rest string) string {
		return m + group + "/providers/Microsoft.KeyVault/vaults/" + rest + "?api-version=2023-07-01"
	}
	body := func(sku string) string {
		return `{"location":"simulated","properties":{"tenantId":"` + identity.Tenant + `","sku":{"family":"A","name":"` + sku + `"}}}`
	}
	port := func(address string) string {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		return u.Port()
	}
	address := "https://" + net.JoinHostPort("127.0.1.7", port(c.Endpoints().Vault))
	const name = "simulated-127-0-1-7"
	secret := address + "/secrets/one?api-version=7.6"
	deleted := m + "/subscriptions/" + c.Endpoints().Subscription + "/providers/Microsoft.KeyVault/locations/simulated/deletedVaults/" + name

	want(t, c, "stranger", management, "PUT", at(name), body("premium"), 403, "Microsoft.KeyVault/vaults/write")
	want(t, c, identity.Owner, management, "PUT", at("-x-"), body("premium"), 400, "VaultNameNotValid")
	want(t, c, identity.Owner, management, "PUT", at(name), body("gold"), 400, "sku")
	want(t, c, identity.Owner, management, "PUT", at(name), strings.Replace(body("premium"), identity.Tenant, identity.TenantOf("hospital"), 1), 400, "tenantId")
	want(t, c, identity.Owner, management, "PUT", at(name), strings.Replace(body("premium"), `"sku"`, `"enableRbacAuthorization":false,"sku"`, 1), 400, "no access policies")
	want(t, c, identity.Owner, management, "PUT", at(name), `{"properties":{}}`, 400, "sku")
	want(t, c, identity.Owner, management, "PUT", at(name), body("premium"), 201, `"vaultUri":"`+address+`/"`)
	want(t, c, identity.Owner, management, "PUT", at(name), body("premium"), 200, `"vaultUri":"`+address+`/"`)
	want(t, c, identity.Owner, vaults, "PUT", secret, `{"value":"kept"}`, 200, "")
	want(t, c, "stranger", vaults, "GET", secret, "", 403, "ForbiddenByRbac")
	want(t, c, identity.Owner, vaults, "POST", address+"/keys/kek/create?api-version=7.6", `{"kty":"RSA-HSM","key_size":2048}`, 200, "RSA-HSM")

	hospital := m + groupOf("hospital") + "/providers/Microsoft.KeyVault/vaults/" + name + "?api-version=1"
	status, answer, _ := asTenant(t, c, "hospital", management, "PUT", hospital, strings.Replace(body("premium"), identity.Tenant, identity.TenantOf("hospital"), 1))
	if status != 409 || !strings.Contains(answer, "VaultAlreadyExists") {
		t.Errorf("the name in another tenant: %d %s", status, answer)
	}

	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = start()
	want(t, c, identity.Owner, vaults, "GET", secret, "", 200, "kept")

	want(t, c, identity.Owner, management, "DELETE", at(name), "", 200, "")
	if conn, err := net.Dial("tcp", strings.TrimPrefix(address, "https://")); err == nil {
		conn.Close()
		t.Error("a deleted vault answers")
	}
	want(t, c, identity.Owner, management, "GET", at(name), "", 404, "ResourceNotFound")
	want(t, c, identity.Owner, management, "GET", deleted+"?api-version=1", "", 200, address)
	want(t, c, identity.Owner, management, "PUT", at(name), body("premium"), 409, "already exists in deleted state")
	want(t, c, identity.Owner, management, "PUT", at(name), strings.Replace(body("premium"), `"sku"`, `"createMode":"recover","sku"`, 1), 201, address)
	want(t, c, identity.Owner, vaults, "GET", secret, "", 200, "kept")
	want(t, c, identity.Owner, management, "DELETE", at(name), "", 200, "")
	want(t, c, "stranger", management, "POST", deleted+"/purge?api-version=1", "", 403, "purge/action")
	want(t, c, identity.Owner, management, "POST", deleted+"/purge?api-version=1", "", 200, "")
	want(t, c, identity.Owner, management, "POST", deleted+"/purge?api-version=1", "", 404, "DeletedVaultNotFound")
	want(t, c, identity.Owner, management, "PUT", at(name), body("standard"), 201, address)
	want(t, c, identity.Owner, vaults, "GET", secret, "", 404, "SecretNotFound")
	want(t, c, identity.Owner, vaults, "POST", address+"/keys/kek/create?api-version=7.6", `{"kty":"RSA-HSM","key_size":2048}`, 400, "SKU standard")
	want(t, c, identity.Owner, vaults, "POST", address+"/keys/soft/create?api-version=7.6", `{"kty":"RSA","key_size":2048}`, 200, "RSA")

	want(t, c, identity.Owner, management, "PUT", at("guarded"), strings.Replace(body("premium"), `"sku"`, `"enablePurgeProtection":true,"sku"`, 1), 201, "https://127.0.0.1:")
	want(t, c, identity.Owner, management, "DELETE", at("guarded"), "", 200, "")
	want(t, c, identity.Owner, management, "POST", strings.Replace(deleted, name, "guarded", 1)+"/purge?api-version=1", "", 409, "Purge protection")
}
