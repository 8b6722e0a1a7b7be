package localcloud

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"cloister/internal/azurite"
	"cloister/internal/localcloud/identity"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"
)

// startWithRoles starts a cloud of the test's own that checks roles.
func startWithRoles(t *testing.T, blobs string) *Cloud {
	t.Helper()
	c, err := Start(context.Background(), Config{Dir: newDir(t), Roles: true, Azurite: blobs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func credentialOf(t *testing.T, c *Cloud, name string) azcore.TokenCredential {
	t.Helper()
	i, err := c.AddIdentity(name)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := azidentity.NewClientAssertionCredential(c.Endpoints().Tenant, i.ClientID,
		func(context.Context) (string, error) { return c.FederatedToken(name) },
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: options(c), DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

// ask sends a request as an identity and returns the answer.
func ask(t *testing.T, c *Cloud, name, audience, method, url, body string) (int, string) {
	t.Helper()
	token, err := credentialOf(t, c, name).GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{audience + "/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token.Token)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("x-ms-blob-type", "BlockBlob")
	r.Header.Set("x-ms-version", "2024-11-04")
	resp, err := transport(c).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, readAll(t, resp)
}

// want sends a request and holds the answer's status and text.
func want(t *testing.T, c *Cloud, name, audience, method, url, body string, status int, text string) string {
	t.Helper()
	got, answer := ask(t, c, name, audience, method, url, body)
	if got != status || !strings.Contains(answer, text) {
		t.Errorf("%s %s as %s: %d %s, want %d with %q", method, url, name, got, answer, status, text)
	}
	return answer
}

const (
	management = "https://management.azure.com"
	vaults     = "https://vault.azure.net"
	hsms       = "https://managedhsm.azure.net"
	storage    = "https://storage.azure.com"
	readerRole = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
	writerRole = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
)

func assignment(c *Cloud, scope, name, role, principal string) (url, body string) {
	return c.Endpoints().Manager + scope + "/providers/Microsoft.Authorization/roleAssignments/" + name + "?api-version=2022-04-01",
		`{"properties":{"roleDefinitionId":"/x/roleDefinitions/` + role + `","principalId":"` + principal + `","principalType":"ServicePrincipal"}}`
}

// A role on one secret opens that secret, for that principal, and nothing else.
func TestRolesOnSecrets(t *testing.T) {
	c := startWithRoles(t, "")
	room, _ := c.AddIdentity(identity.CleanRoom)
	secret := func(name string) string { return c.Endpoints().Vault + "/secrets/" + name + "?api-version=7.6" }
	for _, name := range []string{"one", "another"} {
		want(t, c, identity.Owner, vaults, "PUT", secret(name), `{"value":"v"}`, 200, "")
	}
	want(t, c, identity.CleanRoom, vaults, "GET", secret("one"), "", 403, "ForbiddenByRbac")
	want(t, c, identity.CleanRoom, vaults, "GET", secret("one"), "", 403, "Action: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'")
	url, body := assignment(c, VaultID+"/secrets/one", "11111111-0000-4000-8000-000000000001", "4633458b-17de-408a-b874-0445c86b69e6", room.ObjectID)
	want(t, c, identity.CleanRoom, management, "PUT", url, body, 403, "AuthorizationFailed")
	want(t, c, identity.Owner, management, "PUT", url, body, 201, room.ObjectID)
	want(t, c, identity.Owner, management, "PUT", url, body, 200, room.ObjectID)
	other, _ := assignment(c, VaultID+"/secrets/one", "11111111-0000-4000-8000-000000000002", "", "")
	want(t, c, identity.Owner, management, "PUT", other, body, 409, "RoleAssignmentExists")
	want(t, c, identity.Owner, management, "PUT", url, strings.Replace(body, room.ObjectID, "x", 1), 409, "RoleAssignmentUpdateNotPermitted")
	want(t, c, identity.Owner, management, "PUT", other, strings.Replace(body, "4633458b", "00000000", 1), 400, "RoleDefinitionDoesNotExist")
	want(t, c, identity.CleanRoom, vaults, "GET", secret("one"), "", 200, `"value":"v"`)
	want(t, c, identity.CleanRoom, vaults, "GET", secret("another"), "", 403, "ForbiddenByRbac")
	want(t, c, identity.CleanRoom, vaults, "PUT", secret("one"), `{"value":"w"}`, 403, "setSecret")
	want(t, c, identity.CleanRoom, vaults, "DELETE", secret("one"), "", 403, "secrets/delete")
	want(t, c, "stranger", vaults, "GET", secret("one"), "", 403, "ForbiddenByRbac")
	want(t, c, identity.Owner, management, "DELETE", url, "", 200, "")
	want(t, c, identity.Owner, management, "DELETE", url, "", 204, "")
	want(t, c, identity.CleanRoom, vaults, "GET", secret("one"), "", 403, "ForbiddenByRbac")
}

// An HSM has its own assignments, which the management plane's do not replace.
func TestRolesInAnHSM(t *testing.T) {
	c := startWithRoles(t, "")
	room, _ := c.AddIdentity(identity.CleanRoom)
	hsm := c.Endpoints().HSM
	want(t, c, identity.Owner, hsms, "POST", hsm+"/keys/kek/create?api-version=7.6", `{"kty":"RSA-HSM","key_size":2048}`, 200, "")
	release := func(status int, text string) {
		t.Helper()
		want(t, c, identity.CleanRoom, hsms, "POST", hsm+"/keys/kek/release?api-version=7.6", `{"target":"x"}`, status, text)
	}
	release(403, "Microsoft.KeyVault/managedHsm/keys/release/action")
	url, body := assignment(c, HSMID, "11111111-0000-4000-8000-000000000003", "8e3af657-a8ff-443c-a75c-2fe8c4bcb635", room.ObjectID)
	want(t, c, identity.Owner, management, "PUT", url, body, 201, "")
	release(403, "ForbiddenByRbac")
	at := func(scope string) string {
		return hsm + "/" + scope + "/providers/Microsoft.Authorization/roleAssignments/11111111-0000-4000-8000-000000000004?api-version=7.4"
	}
	body = strings.Replace(body, "8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "21dbd100-6940-42c2-9190-5d6cb909625c", 1)
	want(t, c, identity.CleanRoom, hsms, "PUT", at("keys/kek"), body, 403, "roleAssignments/write")
	want(t, c, identity.Owner, hsms, "PUT", at("secrets/kek"), body, 400, "scope")
	want(t, c, identity.Owner, hsms, "PUT", at("keys/another"), body, 200, `"scope":"/keys/another"`)
	release(403, "ForbiddenByRbac")
	want(t, c, identity.Owner, hsms, "PUT", at("keys/kek"), body, 200, room.ObjectID)
	want(t, c, identity.Owner, hsms, "GET", at("keys/kek"), "", 200, room.ObjectID)
	release(403, "KeyNotExportable") // the role is there: the next refusal is another
	want(t, c, identity.CleanRoom, hsms, "GET", hsm+"/keys/kek?api-version=7.6", "", 403, "keys/read/action")
	list := hsm + "/keys/kek/providers/Microsoft.Authorization/roleAssignments?api-version=7.4&$filter=principalId+eq+'" + room.ObjectID + "'"
	if answer := want(t, c, identity.Owner, hsms, "GET", list, "", 200, room.ObjectID); strings.Count(answer, `"id"`) != 1 {
		t.Errorf("listed %s", answer)
	}
	want(t, c, identity.Owner, hsms, "DELETE", at("keys/kek"), "", 200, room.ObjectID)
	want(t, c, identity.Owner, hsms, "DELETE", at("keys/kek"), "", 404, "RoleAssignmentNotFound")
	release(403, "ForbiddenByRbac")
}

// Azurite asks nobody; what is in front of it does.
func TestRolesOnContainers(t *testing.T) {
	c := startWithRoles(t, azurite.Start(t).Endpoint)
	reader, _ := c.AddIdentity("reader")
	writer, _ := c.AddIdentity("writer")
	name := strings.TrimSuffix(strings.TrimPrefix(azurite.Start(t).NewURL(), azurite.Start(t).Endpoint+"/"+azurite.Account+"/"), "/volume")
	id := AccountID + "/blobServices/default/containers/" + name
	arm := c.Endpoints().Manager + id + "?api-version=2023-05-01"
	want(t, c, identity.Owner, management, "GET", arm, "", 404, "ResourceNotFound")
	want(t, c, "reader", management, "PUT", arm, "{}", 403, "AuthorizationFailed")
	want(t, c, identity.Owner, management, "PUT", arm, "{}", 201, name)
	want(t, c, identity.Owner, management, "PUT", arm, "{}", 200, name)
	for who, role := range map[string]string{reader.ObjectID: readerRole, writer.ObjectID: writerRole} {
		url, body := assignment(c, id, who, role, who)
		want(t, c, identity.Owner, management, "PUT", url, body, 201, "")
	}
	container := c.Endpoints().Blob + "/" + name
	blob := container + "/v/object"
	large := strings.Repeat("x", 3<<20)
	want(t, c, "stranger", storage, "PUT", blob, large, 403, "AuthorizationPermissionMismatch")
	want(t, c, "reader", storage, "PUT", blob, large, 403, "AuthorizationPermissionMismatch")
	want(t, c, "writer", storage, "PUT", blob, large, 201, "")
	want(t, c, "reader", storage, "GET", blob, "", 200, large)
	want(t, c, "reader", storage, "GET", container+"?restype=container&comp=list", "", 200, "v/object")
	want(t, c, "reader", storage, "DELETE", blob, "", 403, "AuthorizationPermissionMismatch")
	want(t, c, "stranger", storage, "GET", blob, "", 403, "AuthorizationPermissionMismatch")
	want(t, c, "stranger", storage, "GET", container+"?restype=container&comp=list", "", 403, "AuthorizationPermissionMismatch")
	want(t, c, "writer", storage, "PUT", c.Endpoints().Blob+"/other?restype=container", "", 403, "AuthorizationPermissionMismatch")
	want(t, c, "writer", storage, "DELETE", blob, "", 202, "")
	want(t, c, "writer", vaults, "GET", blob, "", 401, "NoAuthenticationInformation")
	resp, err := transport(c).Get(blob + "?sig=x")
	if err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("a signature: %v %v", resp, err)
	}
	want(t, c, identity.Owner, management, "DELETE", arm, "", 200, "")
	want(t, c, identity.Owner, management, "GET", arm, "", 404, "ResourceNotFound")
}

func TestIdentitiesByTheManagementPlane(t *testing.T) {
	c := startWithRoles(t, "")
	id := group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/room-7"
	url := c.Endpoints().Manager + id + "?api-version=2023-01-31"
	want(t, c, identity.Owner, management, "GET", url, "", 404, "ResourceNotFound")
	var made struct {
		Properties struct{ ClientID, PrincipalID, TenantID string }
	}
	if err := json.Unmarshal([]byte(want(t, c, identity.Owner, management, "PUT", url, `{"location":"simulated"}`, 201, id)), &made); err != nil {
		t.Fatal(err)
	}
	if oid := made.Properties.PrincipalID; oid == "" || made.Properties.TenantID != identity.Tenant {
		t.Errorf("made %+v", made)
	}
	want(t, c, identity.Owner, management, "PUT", url, `{"location":"simulated"}`, 200, made.Properties.PrincipalID)
	trust := c.Endpoints().Manager + id + "/federatedIdentityCredentials/cluster?api-version=2023-01-31"
	owner, _ := c.AddIdentity("workload-x")
	body := `{"properties":{"issuer":"` + c.identity.WorkloadIssuer() + `","subject":"` + owner.Subject + `","audiences":["api://AzureADTokenExchange"]}}`
	assertion := func() error {
		cred, err := azidentity.NewClientAssertionCredential(c.Endpoints().Tenant, made.Properties.ClientID,
			func(context.Context) (string, error) { return c.FederatedToken("workload-x") },
			&azidentity.ClientAssertionCredentialOptions{ClientOptions: options(c), DisableInstanceDiscovery: true})
		if err != nil {
			t.Fatal(err)
		}
		_, err = cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{vaults + "/.default"}})
		return err
	}
	if err := assertion(); err == nil || !strings.Contains(err.Error(), "AADSTS700213") {
		t.Errorf("before the credential: %v", err)
	}
	want(t, c, identity.Owner, management, "PUT", trust, `{"properties":{}}`, 400, "exactly one audience")
	want(t, c, identity.Owner, management, "PUT", trust, body, 201, owner.Subject)
	if err := assertion(); err != nil {
		t.Errorf("with the credential: %v", err)
	}
	want(t, c, identity.Owner, management, "DELETE", trust, "", 200, "")
	if err := assertion(); err == nil {
		t.Error("the credential is gone and still works")
	}
	want(t, c, identity.Owner, management, "DELETE", url, "", 200, "")
	want(t, c, identity.Owner, management, "GET", url, "", 404, "ResourceNotFound")
	if err := assertion(); err == nil || !strings.Contains(err.Error(), "AADSTS700016") {
		t.Errorf("without the identity: %v", err)
	}
}

// The SDK with which groups are deployed finds here what it finds in Azure.
func TestContainerGroupsBySDK(t *testing.T) {
	c := startWithRoles(t, "")
	o := options(c)
	o.Cloud = cloud.Configuration{ActiveDirectoryAuthorityHost: c.Endpoints().Authority,
		Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: c.Endpoints().Manager, Audience: management}}}
	client, err := armcontainerinstance.NewContainerGroupsClient(c.Endpoints().Subscription, credentialOf(t, c, identity.Owner),
		&arm.ClientOptions{ClientOptions: o, DisableRPRegistration: true})
	if err != nil {
		t.Fatal(err)
	}
	group := armcontainerinstance.ContainerGroup{Location: to.Ptr("simulated"), Properties: &armcontainerinstance.ContainerGroupPropertiesProperties{
		Containers: []*armcontainerinstance.Container{{Name: to.Ptr("runtime"), Properties: &armcontainerinstance.ContainerProperties{Image: to.Ptr("i")}}}}}
	poller, err := client.BeginCreateOrUpdate(t.Context(), "simulated", "room", group, nil)
	if err != nil {
		t.Fatal(err)
	}
	made, err := poller.PollUntilDone(t.Context(), nil)
	if err != nil || *made.Properties.ProvisioningState != "Succeeded" || *made.Properties.InstanceView.State != "Pending" {
		t.Fatalf("%+v, %v", made, err)
	}
	containers, err := armcontainerinstance.NewContainersClient(c.Endpoints().Subscription, credentialOf(t, c, identity.Owner),
		&arm.ClientOptions{ClientOptions: o, DisableRPRegistration: true})
	if err != nil {
		t.Fatal(err)
	}
	if logs, err := containers.ListLogs(t.Context(), "simulated", "room", "runtime", nil); err != nil || *logs.Content != "" {
		t.Errorf("logs: %v", err)
	}
	if _, err := containers.ListLogs(t.Context(), "simulated", "room", "other", nil); err == nil {
		t.Error("logs of no container")
	}
	if _, err := client.Stop(t.Context(), "simulated", "room", nil); err != nil {
		t.Errorf("stopping: %v", err)
	}
	if got, err := client.Get(t.Context(), "simulated", "room", nil); err != nil || *got.Properties.InstanceView.State != "Stopped" {
		t.Errorf("%+v, %v", got, err)
	}
	deletion, err := client.BeginDelete(t.Context(), "simulated", "room", nil)
	if err == nil {
		_, err = deletion.PollUntilDone(t.Context(), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Get(t.Context(), "simulated", "room", nil); err == nil {
		t.Error("it is there still")
	}
}

func TestManagementRefusals(t *testing.T) {
	c := startWithRoles(t, "")
	m := c.Endpoints().Manager
	resp, err := transport(c).Post(m+"/subscriptions", "application/json", bytes.NewReader(nil))
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %v, %v", resp, err)
	}
	for path, tc := range map[string]struct {
		method, body string
		status       int
		text         string
	}{
		group + "/providers/Microsoft.Compute/virtualMachines/x?api-version=1":                                                {"GET", "", 404, "InvalidResourceType"},
		group + "/providers/Microsoft.KeyVault/managedHSMs/new?api-version=1":                                                 {"PUT", "{}", 409, "QuotaExceeded"},
		group + "/providers/Microsoft.KeyVault/vaults/new":                                                                    {"PUT", "{}", 400, "MissingApiVersionParameter"},
		VaultID + "?api-version=1":                                                                                            {"DELETE", "", 409, "ScopeLocked"},
		group + "/providers/Microsoft.ContainerInstance/containerGroups/x?api-version=1":                                      {"PUT", "{}", 400, "MissingContainerGroupContainers"},
		group + "/providers/Microsoft.ContainerInstance/containerGroups/y?api-version=1":                                      {"PUT", "[]", 400, "InvalidRequestContent"},
		group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/no/federatedIdentityCredentials/x?api-version=1": {"PUT", "{}", 404, "ParentResourceNotFound"},
	} {
		want(t, c, identity.Owner, management, tc.method, m+path, tc.body, tc.status, tc.text)
	}
	list := want(t, c, identity.Owner, management, "GET", m+"/subscriptions/"+c.Endpoints().Subscription+"/providers/Microsoft.KeyVault/vaults?api-version=1", "", 200, c.Endpoints().Vault)
	if strings.Contains(list, "managedHSMs") {
		t.Errorf("listed %s", list)
	}
}
