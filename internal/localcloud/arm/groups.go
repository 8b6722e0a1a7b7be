package arm

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"cloister/internal/localcloud/access"
)

const groupKind = "microsoft.containerinstance/containergroups"

// SimulatedImage is what the image of a runtime is called that is a file; its
// digest, "sha256:…", follows.
const SimulatedImage = "cloisterd@"

// Runner runs container groups, by their ids in lower case.
type Runner interface {
	// Start runs a group, in the place of what ran under that id.
	Start(id string, g Group) error
	// Look returns what has become of it; not of one that was never started.
	Look(id string) (Run, bool)
	// Logs returns what its container has said.
	Logs(id string) (string, error)
	// Stop ends it, and returns when nothing is left of it.
	Stop(id string) error
}

// Group is what is run of a container group: its one container.
type Group struct {
	Name, Container, Image string
	Command, Variables     []string // variables as NAME=VALUE
	Policy                 []byte   // the container policy's text
	Restart                string   // Never, OnFailure or Always
}

// Run is the state of a group that was started.
type Run struct {
	Running  bool
	Began    time.Time
	Ended    time.Time // while not Running
	Exit     int       // its code, 128 and more for a signal; while not Running
	Restarts int
}

// Refuse is what a Runner says of a group that the platform would not run.
func Refuse(code, format string, args ...any) error {
	return refuse(http.StatusBadRequest, code, format, args...)
}

// groupForm is a group as a client sends it.
type groupForm struct {
	Properties struct {
		SKU           string `json:"sku"`
		RestartPolicy string `json:"restartPolicy"`
		Confidential  struct {
			Policy string `json:"ccePolicy"`
		} `json:"confidentialComputeProperties"`
		Containers []struct {
			Name       string `json:"name"`
			Properties struct {
				Image     string   `json:"image"`
				Command   []string `json:"command"`
				Variables []struct {
					Name  string `json:"name"`
					Value string `json:"value"`
				} `json:"environmentVariables"`
			} `json:"properties"`
		} `json:"containers"`
	} `json:"properties"`
}

// groupOf takes what is run out of a resource.
func groupOf(id resourceID, r resource) (Group, error) {
	bad := func(message string) (Group, error) {
		return Group{}, refuse(http.StatusBadRequest, "InvalidRequestContent", "The container group '%s' is not run by the simulated cloud: %s.", id.name, message)
	}
	text, err := json.Marshal(r)
	if err != nil {
		return Group{}, err
	}
	var form groupForm
	if err := json.Unmarshal(text, &form); err != nil {
		return bad(err.Error())
	}
	p := form.Properties
	policy, err := base64.StdEncoding.DecodeString(p.Confidential.Policy)
	switch {
	case len(p.Containers) != 1:
		return bad("it runs groups of one container")
	case err != nil || len(policy) == 0 || p.SKU != "Confidential":
		return bad("it runs groups of sku Confidential, with a policy in base64")
	case len(p.Containers[0].Properties.Command) == 0:
		return bad("its container has no command")
	}
	c := p.Containers[0]
	g := Group{Name: id.name, Container: c.Name, Image: c.Properties.Image, Command: c.Properties.Command, Policy: policy, Restart: p.RestartPolicy}
	for _, v := range c.Properties.Variables {
		g.Variables = append(g.Variables, v.Name+"="+v.Value)
	}
	return g, nil
}

// madeGroup starts the group. The same again changes nothing, also where it has
// ended; another one in its place is refused, as by the service.
func madeGroup(s *Service, r *http.Request, id resourceID, made resource) error {
	list, _ := made.properties()["containers"].([]any)
	if len(list) == 0 {
		return refuse(http.StatusBadRequest, "MissingContainerGroupContainers", "The container group has no containers.")
	}
	if err := s.mayAssign(r, id, made); err != nil {
		return err
	}
	before := s.find(id.path)
	if before != nil && !sameGroup(before, made) {
		return refuse(http.StatusBadRequest, "InvalidContainerGroupUpdate", "The updates on container group '%s' are invalid: delete it first and then create a new one.", id.name)
	}
	made.properties()["provisioningState"] = "Succeeded"
	made.setState("Pending")
	if s.Runner == nil {
		return nil
	}
	if _, started := s.Runner.Look(key(id.path)); started && before != nil {
		return nil
	}
	return s.run(id, made)
}

// mayAssign lets a group have only identities that there are, and that who makes the
// group may give to one.
func (s *Service) mayAssign(r *http.Request, id resourceID, made resource) error {
	const assign = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
	caller, _ := r.Context().Value(callerKey{}).(string)
	attached, _ := made["identity"].(map[string]any)
	list, _ := attached["userAssignedIdentities"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(list)) {
		identity := parseID(name)
		if s.find(identity.path) == nil {
			return refuse(http.StatusBadRequest, "FailedIdentityOperation", "The identity '%s' was not found.", identity.path)
		}
		if s.Enforce && !s.Roles.Allows(caller, access.Management, assign, identity.path) {
			return refuse(http.StatusForbidden, "LinkedAuthorizationFailed", "The client '%s' has permission to perform action 'Microsoft.ContainerInstance/containerGroups/write' on scope '%s'; "+
				"however, it does not have permission to perform action(s) '%s' on the linked scope(s) '%s' (respectively) or the linked scope(s) are invalid.", caller, id.path, assign, identity.path)
		}
	}
	return nil
}

func (s *Service) run(id resourceID, r resource) error {
	g, err := groupOf(id, r)
	if err != nil {
		return err
	}
	return s.Runner.Start(key(id.path), g)
}

// sameGroup compares what clients sent.
func sameGroup(a, b resource) bool {
	sent := func(r resource) (out [2]any) {
		p := maps.Clone(r.properties())
		delete(p, "provisioningState")
		delete(p, "instanceView")
		return [2]any{p, r["location"]}
	}
	return reflect.DeepEqual(sent(a), sent(b))
}

func goneGroup(s *Service, _ *http.Request, id resourceID) error {
	if s.Runner == nil {
		return nil
	}
	return s.Runner.Stop(key(id.path))
}

func (r resource) setState(state string) {
	r.properties()["instanceView"] = map[string]any{"events": []any{}, "state": state}
}

// withState returns a group as it is now. Others may be reading the one that is
// kept.
func (s *Service) withState(r resource) resource {
	id, _ := r["id"].(string)
	if parseID(id).kind != groupKind {
		return r
	}
	now := maps.Clone(r)
	now["properties"] = maps.Clone(r.properties())
	view, _ := r.properties()["instanceView"].(map[string]any)
	view = maps.Clone(view)
	now.properties()["instanceView"] = view
	if s.Runner == nil {
		view["events"] = []any{map[string]any{"name": "NotRun", "type": "Normal", "message": "The simulated cloud runs nothing: start it with cloister local up --runtime."}}
		return now
	}
	run, started := s.Runner.Look(key(id))
	if !started {
		view["state"] = "Stopped" // by the end of the cloud that ran it
		return now
	}
	view["state"] = run.word("Running", "Succeeded", "Failed")
	list, _ := r.properties()["containers"].([]any)
	now.properties()["containers"] = []any{run.viewed(list[0])}
	return now
}

func (r Run) word(running, good, bad string) string {
	switch {
	case r.Running:
		return running
	case r.Exit == 0:
		return good
	}
	return bad
}

// viewed returns a container with its state in it.
func (r Run) viewed(container any) any {
	c, _ := container.(map[string]any)
	c = maps.Clone(c)
	p, _ := c["properties"].(map[string]any)
	p = maps.Clone(p)
	current := map[string]any{"state": r.word("Running", "Terminated", "Terminated"), "startTime": r.Began.Format(time.RFC3339)}
	if !r.Running {
		current["finishTime"], current["exitCode"], current["detailStatus"] = r.Ended.Format(time.RFC3339), r.Exit, r.word("", "Completed", "Error")
	}
	p["instanceView"] = map[string]any{"restartCount": r.Restarts, "currentState": current, "events": []any{}}
	c["properties"] = p
	return c
}

// groupAction serves what is done to a container group beside making, showing and
// deleting it: its logs, start, stop and restart. done is false for anything else.
func (s *Service) groupAction(r *http.Request, caller string, id resourceID) (done bool, status int, body any, err error) {
	verb := strings.ToLower(path.Base(id.path))
	logs := verb == "logs" && id.kind == groupKind+"/containers/logs"
	change := r.Method == http.MethodPost && strings.HasPrefix(id.kind, groupKind+"/") && (verb == "start" || verb == "stop" || verb == "restart")
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
	found := s.find(group.path)
	switch {
	case found == nil:
		return true, 0, nil, notFound(group)
	case logs && !found.hasContainer(path.Base(path.Dir(id.path))):
		return true, 0, nil, refuse(http.StatusNotFound, "ContainerNotFound", "The container '%s' of '%s' was not found.", path.Base(path.Dir(id.path)), group.name)
	case logs:
		content, err := s.logs(group)
		return true, http.StatusOK, map[string]string{"content": content}, err
	}
	return true, http.StatusNoContent, nil, s.change(group, found, verb)
}

func (s *Service) logs(group resourceID) (string, error) {
	if s.Runner == nil {
		return "", nil
	}
	return s.Runner.Logs(key(group.path))
}

// change starts or stops a group. Where nothing runs, only its state is another.
func (s *Service) change(group resourceID, found resource, verb string) error {
	if s.Runner != nil {
		if verb == "stop" {
			return s.Runner.Stop(key(group.path))
		}
		return s.run(group, found)
	}
	state := "Pending"
	if verb == "stop" {
		state = "Stopped"
	}
	// Others may be reading the one that is there.
	changed := maps.Clone(found)
	changed["properties"] = maps.Clone(found.properties())
	changed.setState(state)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keep(func(all map[string]resource) { all[key(group.path)] = changed })
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
