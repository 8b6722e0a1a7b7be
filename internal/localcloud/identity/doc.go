// Package identity emulates the two ways to a token of the cloud's directory: the
// managed-identity endpoint inside a container group, and the authority's token
// endpoint for workload identity federation.
//
// Life of a request: a client inside the "container" gets
// IDENTITY_ENDPOINT?resource=… with the secret of IDENTITY_HEADER and receives a
// token for the default identity or for the one it names; or a client posts a
// signed assertion to /TENANT/oauth2/v2.0/token, the assertion is verified
// against the issuers that the named application trusts, and the same kind of
// token comes back. Other services ask Authenticate whether a token they were
// shown is one of these and is for them.
//
// There are as many directories as tenants are named, each with identities of its
// own; In is one of them, and its Authenticate refuses what another issued.
package identity

import "time"

// Tenant is the directory that is always there, whose name is "". Its form is a
// UUID, because clients check that.
const Tenant = "00000000-51d0-4a1d-8000-c1015e4c1047"

// Lifetimes of the real tokens.
const (
	managedLife   = 24 * time.Hour
	federatedLife = time.Hour
)

// The default identities: the clean room's, which the managed-identity endpoint
// gives to whoever names none, and an owner's, for the owner's tools.
const (
	CleanRoom = "clean-room"
	Owner     = "owner"
)

// federationAudience is what an assertion must be for, whatever the cloud.
const federationAudience = "api://AzureADTokenExchange"
