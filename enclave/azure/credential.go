package azure

import (
	"context"
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"cloister/internal/fault"
)

// Identity says as whom the runtime asks. The zero value is the container
// group's one managed identity in the public cloud.
type Identity struct {
	ClientID string // of a user-assigned identity; "" is the only one, or AZURE_CLIENT_ID
	TenantID string // for workload identity; "" is AZURE_TENANT_ID
	// ResourceID of a managed identity, together with TenantID: ClientID is of an
	// application in that tenant, which the managed identity stands for. It is how
	// a clean room is somebody in another tenant than its own.
	ResourceID string
	// AuthorityHost is the login service of a sovereign or private cloud, with
	// https://; "" is AZURE_AUTHORITY_HOST or the public cloud.
	AuthorityHost string
	// PrivateCloud says that the authority is not one of Azure's, so that
	// asking Azure about it would be in vain.
	PrivateCloud bool
	Transport    policy.Transporter  // nil is the SDK's
	Retry        policy.RetryOptions // the zero value is the SDK's
}

// Credential returns workload identity federation where the platform set
// AZURE_FEDERATED_TOKEN_FILE, and managed identity elsewhere. Tokens are cached
// and renewed ahead of expiry by the SDK. Nothing is asked yet.
func (i Identity) Credential() (azcore.TokenCredential, error) {
	opts := azcore.ClientOptions{Transport: i.Transport, Retry: i.Retry}
	if i.AuthorityHost != "" {
		opts.Cloud = cloud.Configuration{ActiveDirectoryAuthorityHost: i.AuthorityHost}
	}
	if file := os.Getenv("AZURE_FEDERATED_TOKEN_FILE"); file != "" {
		return i.workload(opts, file)
	}
	managed := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: opts}
	if i.TenantID != "" && i.ResourceID != "" {
		return i.application(opts, managed)
	}
	if i.ClientID != "" {
		managed.ID = azidentity.ClientID(i.ClientID)
	}
	cred, err := azidentity.NewManagedIdentityCredential(managed)
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "", "setting up the managed identity: %w", err)
	}
	return cred, nil
}

// exchangeScope is what a token is asked for that is exchanged for an
// application's:
// https://learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity
const exchangeScope = "api://AzureADTokenExchange/.default"

// application is the credential of an application in another tenant, by a token
// of the managed identity that it is federated with. No secret is involved.
func (i Identity) application(opts azcore.ClientOptions, managed *azidentity.ManagedIdentityCredentialOptions) (azcore.TokenCredential, error) {
	managed.ID = azidentity.ResourceID(i.ResourceID)
	own, err := azidentity.NewManagedIdentityCredential(managed)
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "", "setting up the managed identity %s: %w", i.ResourceID, err)
	}
	assertion := func(ctx context.Context) (string, error) {
		token, err := own.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{exchangeScope}})
		return token.Token, err
	}
	cred, err := azidentity.NewClientAssertionCredential(i.TenantID, i.ClientID, assertion,
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: opts, DisableInstanceDiscovery: i.PrivateCloud})
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "check the identity's tenant and client id in the specification", "setting up the application %s: %w", i.ClientID, err)
	}
	return cred, nil
}

func (i Identity) workload(opts azcore.ClientOptions, file string) (azcore.TokenCredential, error) {
	cred, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
		ClientOptions: opts, ClientID: i.ClientID, TenantID: i.TenantID, TokenFilePath: file,
		DisableInstanceDiscovery: i.PrivateCloud,
	})
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "set AZURE_CLIENT_ID and AZURE_TENANT_ID, or name both in the specification",
			"setting up workload identity: %w", err)
	}
	return cred, nil
}
