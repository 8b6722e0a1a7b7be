// Package arm emulates Azure's management plane (Azure Resource Manager), as far
// as a clean room needs it: managed identities and their federated credentials,
// role assignments at any scope, key vaults that are made, soft-deleted, recovered
// and purged, a vault, an HSM and a storage account that are always there, with its
// containers, and container groups.
//
// Life of a request: its token is checked by the directory; its path is taken
// apart into a resource's id and type; a role of the caller's must have the
// type's action at that id; then the type's own function makes, shows or deletes
// the resource, which is kept as the JSON that the client sent with what the
// service adds. Everything is in one file. Types that are not listed in types
// are refused as providers that are not registered.
//
// Container groups are run by a Runner, and show what has become of them; without
// one they are resources only, and say that nothing runs. Forms follow Azure's REST reference; where that shows no
// text, the code here carries one of its own.
package arm
