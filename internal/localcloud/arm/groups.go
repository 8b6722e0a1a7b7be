package arm

import (
	"maps"
	"net/http"
	"path"
	"strings"
)

// A container group is kept as it was sent. Nothing runs: its state is Pending
// until it is stopped.
func madeGroup(_ *Service, _ *http.Request, _ resourceID, made resource) error {
	list, _ := made.properties()["containers"].([]any)
	if len(list) == 0 {
		return refuse(http.StatusBadRequest, "MissingContainerGroupContainers", "The container group has no containers.")
	}
	made.properties()["provisioningState"] = "Succeeded"
	made.setState("Pending")
	return nil
}

func (r resource) setState(state string) {
	r.properties()["instanceView"] = map[string]any{"events": []any{}, "state": state}
}

// groupAction serves what is done to a container group beside making, showing and
// deleting it: its logs, start, stop and restart. done is false for anything else.
func (s *Service) groupAction(r *http.Request, caller string, id resourceID) (done bool, status int, body any, err error) {
	verb := strings.ToLower(path.Base(id.path))
	logs := verb == "logs" && id.kind == "microsoft.containerinstance/containergroups/containers/logs"
	change := r.Method == http.MethodPost && strings.HasPrefix(id.kind, "microsoft.containerinstance/containergroups/") && (verb == "start" || verb == "stop" || verb == "restart")
	if !logs && !change {
		return false, 0, nil, nil
	}
	group := parseID(path.Dir(id.path))
	action := "Microsoft.ContainerInstance/containerGroups/" + verb + "/action"
	if logs {
		group = parseID(path.Dir(path.Dir(path.Dir(id.path))))
		action = "Microsoft.ContainerInstance/containerGroups/containers/logs/read"
	}
	if err := s.authorize(caller, action, group); err != nil {
		return true, 0, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.resources[key(group.path)]
	switch {
	case found == nil:
		return true, 0, nil, notFound(group)
	case logs && !found.hasContainer(path.Base(path.Dir(id.path))):
		return true, 0, nil, refuse(http.StatusNotFound, "ContainerNotFound", "The container '%s' of '%s' was not found.", path.Base(path.Dir(id.path)), group.name)
	case logs:
		return true, http.StatusOK, map[string]string{"content": ""}, nil
	}
	state := "Pending"
	if verb == "stop" {
		state = "Stopped"
	}
	// Others may be reading the one that is there.
	changed := maps.Clone(found)
	changed["properties"] = maps.Clone(found.properties())
	changed.setState(state)
	return true, http.StatusNoContent, nil, s.keep(func(all map[string]resource) { all[key(group.path)] = changed })
}

func (r resource) hasContainer(name string) bool {
	list, _ := r.properties()["containers"].([]any)
	for _, c := range list {
		if m, ok := c.(map[string]any); ok && m["name"] == name {
			return true
		}
	}
	return false
}
