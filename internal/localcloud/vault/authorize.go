package vault

import (
	"net/http"
	"strings"

	"cloister/internal/localcloud/access"
)

// action is the data action that a route needs, by its published name.
func (rt route) action(kind Kind) string {
	parts := strings.Split(rt.pattern, "/")
	collection, last := strings.TrimPrefix(parts[0], "deleted"), parts[len(parts)-1]
	verb := verbs[last]
	switch {
	case verb != "":
	case rt.method == http.MethodGet && last == "{name}" && collection == "secrets", rt.method == http.MethodGet && last == "{version}" && collection == "secrets":
		verb = "getSecret/action"
	case rt.method == http.MethodGet && collection == "secrets":
		verb = "readMetadata/action"
	case rt.method == http.MethodPut && collection == "secrets":
		verb = "setSecret/action"
	case rt.method == http.MethodPut && last == "{name}":
		verb = "import/action"
	case rt.method == http.MethodDelete:
		verb = "delete"
	case rt.method == http.MethodGet:
		verb = "read"
	default:
		verb = "update/action"
	}
	if collection == parts[0] {
		return kind.named(collection + "/" + verb)
	}
	return kind.named(collection + "/" + map[string]string{http.MethodGet: "deletedRead", http.MethodDelete: "purge/action", http.MethodPost: "recover/action"}[rt.method])
}

// verbs are the actions that the last part of a path names.
var verbs = map[string]string{
	"create": "create/action", "rotate": "rotate/action", "release": "release/action",
	"encrypt": "encrypt/action", "decrypt": "decrypt/action", "wrapkey": "wrap/action", "unwrapkey": "unwrap/action",
}

// hsmActions are what a Managed HSM calls otherwise than a Key Vault.
var hsmActions = map[string]string{
	"keys/read": "keys/read/action", "keys/create/action": "keys/create", "keys/rotate/action": "keys/write/action", "keys/update/action": "keys/write/action",
	"keys/deletedRead": "keys/deletedKeys/read/action", "keys/purge/action": "keys/deletedKeys/delete", "keys/recover/action": "keys/deletedKeys/recover/action",
}

func (k Kind) named(action string) string {
	if k == ManagedHSM {
		if other, ok := hsmActions[action]; ok {
			action = other
		}
		return "Microsoft.KeyVault/managedHsm/" + action
	}
	if action == "secrets/deletedRead" {
		action = "secrets/readMetadata/action"
	}
	return "Microsoft.KeyVault/vaults/" + strings.Replace(action, "deletedRead", "read", 1)
}

// scope is what an assignment must cover: one key or secret, or all of them.
func (s *Service) scope(rt route, name string) string {
	collection, _, _ := strings.Cut(rt.pattern, "/")
	scope := s.Resource + "/" + strings.TrimPrefix(collection, "deleted")
	if name != "" {
		scope += "/" + name
	}
	return scope
}

// authorize refuses what no role of the caller's allows, in the form of the
// service's refusal by role.
func (s *Service) authorize(r *http.Request, caller, action, scope string) error {
	if !s.Enforce || s.Roles.Allows(caller, access.Data, action, scope) {
		return nil
	}
	return forbidden("ForbiddenByRbac", "Caller is not authorized to perform action on resource.\r\n"+
		"If role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\r\n"+
		"Caller: oid=%s\r\nAction: '%s'\r\nResource: '%s'\r\nAssignment: (not found)", caller, action, scope)
}
