// Package localcloud is the cloud on a laptop: the attestation service, the key
// vault and the managed HSM, the directory and the SEV-SNP processor that the
// runtime and the owner's tools talk to, emulated to the letter of the wire.
// None of it protects anything, and all of it says so.
//
// Life of a request: Start reads the world of its directory, or makes a new one,
// and listens on loopback, each service on the port it had before; a client that
// was told to trust STATE/ca.pem connects to an address of STATE/endpoints.json;
// package wire logs the request and passes it to the service's own package. The
// launching of guests, faults, identities and key rotation come in over
// STATE/admin.sock, which is open to the directory's owner only.
//
// The login service, the management plane and the attestation service are one for
// all tenants; vault, HSM and storage are a tenant's own, and refuse what another
// tenant's directory issued.
//
//	attestation  the attestation service, for guests of package platform
//	vault        Key Vault and Managed HSM, with secure key release
//	broker       the Key Broker Service of the Confidential Containers
//	identity     the directory: managed identity and workload federation
//	arm          the management plane: identities, role assignments, container groups
//	host         what runs the container groups: a real runtime in a simulated guest
//	blob         Azure's access control in front of Azurite
//	access       role assignments
//	platform     the software SEV-SNP processor
//	wire         what they share
package localcloud
