package localcloud

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"cloister/enclave/azure"
	"cloister/internal/azurite"
	"cloister/internal/localcloud/identity"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// An identity of another tenant is nobody here, but as the application that it
// stands for, with the role that that was given.
func TestAnotherTenantsIdentity(t *testing.T) {
	c := startWithRoles(t, "")
	e := c.Endpoints()
	room, err := c.AddIdentityIn("isv", "isv-room")
	if err != nil || room.Tenant != identity.TenantOf("isv") {
		t.Fatalf("%+v, %v", room, err)
	}
	if other, err := c.AddIdentityIn("another", "isv-room"); err != nil || other.ObjectID == room.ObjectID {
		t.Errorf("of another tenant: %+v, %v", other, err)
	}
	if _, err := c.AddIdentityIn("No tenant", "isv-room"); err == nil {
		t.Error("a tenant of a name that cannot be")
	}
	if again, err := c.AddIdentityIn("isv", "isv-room"); err != nil || again.ObjectID != room.ObjectID {
		t.Errorf("%+v, %v", again, err)
	}
	t.Setenv("IDENTITY_ENDPOINT", e.IdentityEndpoint)
	t.Setenv("IDENTITY_HEADER", e.IdentityHeader.Reveal())
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", "")
	as := func(i azure.Identity) string {
		t.Helper()
		i.AuthorityHost, i.PrivateCloud, i.Transport, i.Retry = e.Authority, true, transport(c), policy.RetryOptions{MaxRetries: -1}
		cred, err := i.Credential()
		if err != nil {
			t.Fatal(err)
		}
		token, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{vaults + "/.default"}})
		if err != nil {
			return err.Error()
		}
		return token.Token
	}
	secret := e.Vault + "/secrets/shared?api-version=7.6"
	want(t, c, identity.Owner, vaults, "PUT", secret, `{"value":"v"}`, 200, "")
	if status, body := asToken(t, c, as(azure.Identity{ClientID: room.ClientID}), secret); status != 401 || !strings.Contains(body, "AKV10032") {
		t.Errorf("as itself: %d %s", status, body)
	}

	var app identity.Application
	made := isv(t, c, "POST", e.Authority+"/v1.0/applications", `{"displayName":"room","signInAudience":"AzureADMultipleOrgs"}`)
	if err := json.Unmarshal([]byte(made), &app); err != nil || app.ClientID == "" {
		t.Fatalf("%s: %v", made, err)
	}
	isv(t, c, "POST", e.Authority+"/v1.0/applications/"+app.ID+"/federatedIdentityCredentials", `{"name":"r","issuer":"`+e.Authority+"/"+room.Tenant+
		`/v2.0","subject":"`+room.ObjectID+`","audiences":["api://AzureADTokenExchange"]}`)
	outside := azure.Identity{ClientID: app.ClientID, TenantID: e.Tenant, ResourceID: room.ResourceID}
	if got := as(outside); !strings.Contains(got, "AADSTS700016") {
		t.Errorf("before it is admitted: %s", got)
	}
	graph := e.Authority + "/v1.0/servicePrincipals"
	want(t, c, identity.Owner, graphAPI, "POST", graph, `{"appId":"22222222-0000-4000-8000-00000000000f"}`, 400, "no multi-tenant application")
	var sp struct{ ID string }
	if err := json.Unmarshal([]byte(want(t, c, identity.Owner, graphAPI, "POST", graph, `{"appId":"`+app.ClientID+`"}`, 201, app.ClientID)), &sp); err != nil {
		t.Fatal(err)
	}
	if status, body := asToken(t, c, as(outside), secret); status != 403 || !strings.Contains(body, "ForbiddenByRbac") {
		t.Errorf("without a role: %d %s", status, body)
	}
	url, body := assignment(c, VaultID+"/secrets/shared", "11111111-0000-4000-8000-000000000009", "4633458b-17de-408a-b874-0445c86b69e6", sp.ID)
	want(t, c, identity.Owner, management, "PUT", url, body, 201, "")
	if status, body := asToken(t, c, as(outside), secret); status != 200 || !strings.Contains(body, `"value":"v"`) {
		t.Errorf("with the role: %d %s", status, body)
	}
	other, _ := c.AddIdentityIn("isv", "other-room")
	outside.ResourceID = other.ResourceID
	if got := as(outside); !strings.Contains(got, "AADSTS700213") {
		t.Errorf("another identity of that tenant: %s", got)
	}
}

const graphAPI = "https://graph.microsoft.com"

// isv asks the directory of tenant isv as somebody of it.
func isv(t *testing.T, c *Cloud, method, url, body string) string {
	t.Helper()
	i, err := c.AddIdentityIn("isv", "isv-admin")
	if err != nil {
		t.Fatal(err)
	}
	cred, err := azidentity.NewClientAssertionCredential(i.Tenant, i.ClientID,
		func(context.Context) (string, error) { return c.FederatedTokenIn("isv", "isv-admin") },
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: options(c), DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	token, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{graphAPI + "/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token.Token)
	resp, err := transport(c).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer := readAll(t, resp)
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s: %d %s", method, url, resp.StatusCode, answer)
	}
	return answer
}

// asToken reads a secret with a token as it is.
func asToken(t *testing.T, c *Cloud, token, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := transport(c).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, readAll(t, resp)
}

// tenantToken is a token of a tenant's identity, from the managed endpoint.
func tenantToken(t *testing.T, c *Cloud, tenant, name, audience string) string {
	t.Helper()
	i, err := c.AddIdentityIn(tenant, name)
	if err != nil {
		t.Fatal(err)
	}
	e := c.Endpoints()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.IdentityEndpoint+"?api-version=2019-08-01&resource="+audience+"&client_id="+i.ClientID, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-IDENTITY-HEADER", e.IdentityHeader.Reveal())
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(readAll(t, resp)), &answer); err != nil || answer.AccessToken == "" {
		t.Fatal(resp.Status, err)
	}
	return answer.AccessToken
}

// asTenant sends a request as a tenant's identity.
func asTenant(t *testing.T, c *Cloud, tenant, audience, method, url, body string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+tenantToken(t, c, tenant, identity.Owner, audience))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("x-ms-blob-type", "BlockBlob")
	r.Header.Set("x-ms-version", "2024-11-04")
	resp, err := transport(c).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, readAll(t, resp), resp.Header
}

// Each tenant has everything of its own, and nothing of the others': a token of
// one at another's vault, HSM, subscription and storage is refused with the tenant
// that it should have been asked of.
func TestTenantsAreApart(t *testing.T) {
	dir := newDir(t)
	start := func(tenants ...string) *Cloud {
		t.Helper()
		c, err := Start(t.Context(), Config{Dir: dir, Roles: true, Tenants: tenants, Azurite: azurite.Start(t).Endpoint})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := start("hospital", "lab")
	before := first.Endpoints()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	c := start() // the tenants of the run before, where they were
	t.Cleanup(func() { c.Close() })
	if !reflect.DeepEqual(c.Endpoints(), before) || len(before.Tenants) != 2 {
		t.Fatalf("%+v, before %+v", c.Endpoints(), before)
	}
	name := strings.TrimSuffix(strings.TrimPrefix(azurite.Start(t).NewURL(), azurite.Start(t).Endpoint+"/"+azurite.Account+"/"), "/volume")
	tenants := []string{"", "hospital", "lab"}
	for _, owner := range tenants {
		at := before.In(owner)
		container := groupOf(owner) + "/providers/Microsoft.Storage/storageAccounts/" + (&tenant{name: owner}).account() + "/blobServices/default/containers/" + name
		for _, x := range []struct{ audience, method, url, body, refusal, names string }{
			{vaults, "PUT", at.Vault + "/secrets/one?api-version=7.6", `{"value":"of ` + owner + `"}`, "AKV10032", `authorization="` + at.Authority + "/" + at.Tenant + `"`},
			{hsms, "POST", at.HSM + "/keys/one/create?api-version=7.6", `{"kty":"RSA-HSM","key_size":2048}`, "AKV10032", `authorization="` + at.Authority + "/" + at.Tenant + `"`},
			{management, "PUT", at.Manager + container + "?api-version=2023-05-01", "{}", "InvalidAuthenticationTokenTenant", `authorization_uri="` + at.Authority + "/" + at.Tenant + `"`},
			{storage, "PUT", at.Blob + "/" + name + "/a%20b", "of " + owner, "InvalidAuthenticationInfo", "authorization_uri=" + at.Authority + "/" + at.Tenant + "/"},
			{vaults, "GET", at.Vault + "/secrets/one?api-version=7.6", "", "AKV10032", at.Tenant},
			{storage, "GET", at.Blob + "/" + name + "/a%20b", "", "InvalidAuthenticationInfo", at.Tenant},
		} {
			for _, caller := range tenants {
				status, body, header := asTenant(t, c, caller, x.audience, x.method, x.url, x.body)
				challenge := header.Get("WWW-Authenticate")
				switch {
				case caller != owner && (status != http.StatusUnauthorized || !strings.Contains(body, x.refusal) || !strings.Contains(challenge, x.names)):
					t.Errorf("%s %s as %q: %d %s; %s", x.method, x.url, caller, status, body, challenge)
				case caller == owner && (status > 299 || x.method == "GET" && !strings.Contains(body, "of "+owner)):
					t.Errorf("%s %s as its owner %q: %d %s", x.method, x.url, caller, status, body)
				}
			}
		}
	}
	status, body, _ := asTenant(t, c, "lab", management, "GET", before.Manager+"/subscriptions/"+before.In("lab").Subscription+"/providers/Microsoft.KeyVault/vaults?api-version=1", "")
	if status != 200 || !strings.Contains(body, before.In("lab").Vault) || strings.Contains(body, before.In("hospital").Vault) {
		t.Errorf("the lab's vaults: %d %s", status, body)
	}
	status, body, _ = asTenant(t, c, "", management, "GET", before.Manager+"/subscriptions/"+before.In("nobody").Subscription+"/providers/Microsoft.KeyVault/vaults?api-version=1", "")
	if status != 404 || !strings.Contains(body, "SubscriptionNotFound") {
		t.Errorf("a subscription that is not there: %d %s", status, body)
	}
	// Azurite keeps all accounts in one: the name that another's container has there
	// opens nothing.
	status, body, _ = asTenant(t, c, "", storage, "GET", before.Blob+"/accountof-lab-"+name+"/a%20b", "")
	if status != 404 {
		t.Errorf("the lab's container by Azurite's name: %d %s", status, body)
	}
}

// A login service that does not know the tenant, or the application in it, says so
// by its numbers.
func TestUnknownTenantsAndApplications(t *testing.T) {
	c := startWithRoles(t, "")
	room, _ := c.AddIdentity(identity.CleanRoom)
	for _, x := range []struct{ tenant, client, number string }{
		{"11111111-0000-4000-8000-000000000000", room.ClientID, "AADSTS90002"},
		{c.Endpoints().Tenant, "11111111-0000-4000-8000-000000000001", "AADSTS700016"},
	} {
		cred, err := azidentity.NewClientAssertionCredential(x.tenant, x.client, func(context.Context) (string, error) { return c.FederatedToken(identity.CleanRoom) },
			&azidentity.ClientAssertionCredentialOptions{ClientOptions: options(c), DisableInstanceDiscovery: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{vaults + "/.default"}}); err == nil || !strings.Contains(err.Error(), x.number) {
			t.Errorf("%s in %s: %v", x.client, x.tenant, err)
		}
	}
}
