package arm

import (
	"path"
	"strings"
)

// resourceID is a path of the management plane taken apart:
// /subscriptions/S[/resourceGroups/G]/providers/NAMESPACE/TYPE/NAME[/TYPE/NAME...],
// where the last /providers/ begins the resource and what is before is its scope.
type resourceID struct {
	path  string // as it was sent, without a slash at its end
	scope string // what is before the last "/providers/"; "/" where nothing is
	kind  string // lower case, with the namespace
	name  string // "" for a list
}

func parseID(p string) resourceID {
	id := resourceID{path: path.Clean("/" + p)}
	at := strings.LastIndex(strings.ToLower(id.path), "/providers/")
	if at < 0 {
		return plainID(id)
	}
	id.scope = path.Clean("/" + id.path[:at])
	parts := strings.Split(id.path[at+len("/providers/"):], "/")
	kind := []string{parts[0]}
	for i := 1; i < len(parts); i += 2 {
		kind = append(kind, parts[i])
		id.name = ""
		if i+1 < len(parts) {
			id.name = parts[i+1]
		}
	}
	id.kind = strings.ToLower(strings.Join(kind, "/"))
	return id
}

// plainID is of a subscription or a resource group, which are of no provider.
func plainID(id resourceID) resourceID {
	parts := strings.Split(strings.Trim(id.path, "/"), "/")
	if len(parts) == 4 && strings.EqualFold(parts[2], "resourceGroups") {
		id.kind, id.name, id.scope = "microsoft.resources/resourcegroups", parts[3], "/"+strings.Join(parts[:2], "/")
	}
	return id
}

// parent is the id of the resource that this one is below, "" where it is none.
func (id resourceID) parent() string {
	if strings.Count(id.kind, "/") < 2 {
		return ""
	}
	return path.Dir(path.Dir(id.path))
}

// SubscriptionOf is the subscription that a path of the management plane is in.
func SubscriptionOf(path string) (id string, named bool) {
	parts := strings.SplitN(strings.TrimPrefix(path, "/"), "/", 3)
	if len(parts) < 2 || !strings.EqualFold(parts[0], "subscriptions") {
		return "", false
	}
	return parts[1], true
}

func key(id string) string { return strings.ToLower(id) }
