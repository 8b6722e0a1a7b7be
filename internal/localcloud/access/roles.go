package access

import (
	"slices"
	"strings"
)

// Plane tells what a service does from what is done to it.
type Plane int

const (
	Management Plane = iota // a role definition's actions
	Data                    // its dataActions
)

// Role is a built-in role as far as the simulated services ask about it.
type Role struct {
	ID, Name      string
	Actions, Data []string // patterns; "*" stands for anything
}

func (r Role) has(plane Plane, action string) bool {
	list := r.Actions
	if plane == Data {
		list = r.Data
	}
	return slices.ContainsFunc(list, func(pattern string) bool { return matches(pattern, action) })
}

// matches holds action against a pattern with any number of stars. Case does not
// count, as in Azure.
func matches(pattern, action string) bool {
	pattern, action = strings.ToLower(pattern), strings.ToLower(action)
	first, rest, star := strings.Cut(pattern, "*")
	action, ok := strings.CutPrefix(action, first)
	if !ok || !star {
		return ok && action == ""
	}
	for i := range len(action) + 1 {
		if matches(rest, action[i:]) {
			return true
		}
	}
	return false
}

const (
	vault      = "Microsoft.KeyVault/vaults/"
	hsm        = "Microsoft.KeyVault/managedHsm/"
	containers = "Microsoft.Storage/storageAccounts/blobServices/containers/"
	assign     = "Microsoft.Authorization/*"
)

// Azure are built-in roles of Azure's own access control, by their published ids:
// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
func Azure() []Role {
	return []Role{
		{"8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "Owner", []string{"*"}, nil},
		{"b24988ac-6180-42a0-ab88-20f7382dd24c", "Contributor", []string{"Microsoft.ContainerInstance/*", "Microsoft.KeyVault/*",
			"Microsoft.ManagedIdentity/*", "Microsoft.Storage/*", "Microsoft.Resources/*", "*/read"}, nil},
		{"acdd72a7-3385-48ef-bd42-f606fba81ae7", "Reader", []string{"*/read"}, nil},
		{"18d7d88d-d35e-4fb5-a5c3-7773c20a72d9", "User Access Administrator", []string{"*/read", assign}, nil},
		{"f58310d9-a9f6-439a-9e8d-f62e7b41a168", "Role Based Access Control Administrator", []string{"*/read", assign}, nil},
		{"5d977122-f97e-4b4d-a52f-6b43003ddb4d", "Azure Container Instances Contributor Role", []string{"Microsoft.ContainerInstance/containerGroups/*",
			"Microsoft.Resources/subscriptions/resourceGroups/read"}, nil},
		{"f1a07417-d97a-45cb-824c-7a7467783830", "Managed Identity Operator", []string{"Microsoft.ManagedIdentity/userAssignedIdentities/*/read",
			"Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action", "Microsoft.ManagedIdentity/userAssignedIdentities/read", "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"}, nil},
		{"e40ec5ca-96e0-45a2-b4ff-59039f2c2b59", "Managed Identity Contributor", []string{"Microsoft.ManagedIdentity/*", "*/read"}, nil},
		{"00482a5a-887f-4fb3-b363-3b7fe8e74483", "Key Vault Administrator", nil, []string{vault + "*"}},
		{"21090545-7ca7-4776-b22c-e363652d74d2", "Key Vault Reader", nil, []string{vault + "*/read", vault + "secrets/readMetadata/action"}},
		{"14b46e9e-c2b7-41b4-b07b-48a6ebf60603", "Key Vault Crypto Officer", nil, []string{vault + "keys/*"}},
		{"12338af0-0e69-4776-bea7-57ae8d297424", "Key Vault Crypto User", nil, []string{vault + "keys/read", vault + "keys/update/action",
			vault + "keys/encrypt/action", vault + "keys/decrypt/action", vault + "keys/wrap/action", vault + "keys/unwrap/action"}},
		{"08bbd89e-9f13-488c-ac41-acfcb10c90ab", "Key Vault Crypto Service Release User", nil, []string{vault + "keys/release/action"}},
		{"b86a8fe4-44ce-4948-aee5-eccb2c155cd7", "Key Vault Secrets Officer", nil, []string{vault + "secrets/*"}},
		{"4633458b-17de-408a-b874-0445c86b69e6", "Key Vault Secrets User", nil, []string{vault + "secrets/getSecret/action", vault + "secrets/readMetadata/action"}},
		{"b7e6dc6d-f1e8-4753-8033-0f276bb0955b", "Storage Blob Data Owner", []string{containers + "*"}, []string{containers + "*"}},
		{"ba92f5b4-2d11-453d-a403-e96b0029c9fe", "Storage Blob Data Contributor", []string{containers + "*"},
			[]string{containers + "blobs/read", containers + "blobs/write", containers + "blobs/delete", containers + "blobs/add/action"}},
		{"2a2b9908-6ea1-4ae2-8e65-a410df84e7d1", "Storage Blob Data Reader", []string{containers + "read"}, []string{containers + "blobs/read"}},
	}
}

// ManagedHSM are the built-in roles of a Managed HSM's own access control, with
// the data actions that the service lists for them:
// https://learn.microsoft.com/azure/key-vault/managed-hsm/built-in-roles
func ManagedHSM() []Role {
	return []Role{
		{"a290e904-7015-4bba-90c8-60543313cdb4", "Managed HSM Administrator", nil, []string{hsm + "roleAssignments/*"}},
		{"515eb02d-2335-4d2d-92f2-b1cbdf9c3778", "Managed HSM Crypto Officer", nil, []string{hsm + "roleAssignments/*", hsm + "keys/deletedKeys/*"}},
		{"21dbd100-6940-42c2-9190-5d6cb909625b", "Managed HSM Crypto User", nil, []string{hsm + "roleAssignments/read/action", hsm + "keys/read/action",
			hsm + "keys/create", hsm + "keys/import/action", hsm + "keys/write/action", hsm + "keys/delete", hsm + "keys/release/action",
			hsm + "keys/encrypt/action", hsm + "keys/decrypt/action", hsm + "keys/wrap/action", hsm + "keys/unwrap/action"}},
		{"4bd23610-cdcf-4971-bdee-bdc562cc28e4", "Managed HSM Policy Administrator", nil, []string{hsm + "roleAssignments/*"}},
		{"2c18b078-7c48-4d3a-af88-5a3a1b3f82b3", "Managed HSM Crypto Auditor", nil, []string{hsm + "roleAssignments/read/action", hsm + "keys/read/action", hsm + "keys/deletedKeys/read/action"}},
		{"21dbd100-6940-42c2-9190-5d6cb909625c", "Managed HSM Crypto Service Release User", nil, []string{hsm + "keys/release/action"}},
	}
}
