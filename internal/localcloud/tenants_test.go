package localcloud

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"cloister/enclave/azure"
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
	if _, err := c.AddIdentityIn("another", "isv-room"); err == nil {
		t.Error("one name in two tenants")
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
		func(context.Context) (string, error) { return c.FederatedToken("isv-admin") },
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
