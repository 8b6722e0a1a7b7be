package vault

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"cloister/internal/localcloud/access"
)

// assignmentsPath is in every path of a Managed HSM's own access control:
// SCOPE/providers/Microsoft.Authorization/roleAssignments[/NAME], with a scope of
// nothing, /keys, or /keys/NAME.
const assignmentsPath = "/providers/Microsoft.Authorization/roleAssignments"

type assignmentRequest struct {
	Properties struct {
		RoleDefinitionID string `json:"roleDefinitionId"`
		PrincipalID      string `json:"principalId"`
	} `json:"properties"`
}

// assignments serves them. The doubled slash of an empty scope is the clients'.
func (s *Service) assignments(r *http.Request, caller string) (any, error) {
	scope, name, _ := strings.Cut(r.URL.Path, assignmentsPath)
	scope, name = "/"+strings.Trim(scope, "/"), strings.Trim(name, "/")
	if scope != "/" && scope != "/keys" && (!strings.HasPrefix(scope, "/keys/") || !nameForm.MatchString(scope[len("/keys/"):])) {
		return nil, badParameter("The scope %q is not /, /keys or /keys/NAME.", scope)
	}
	verb := map[string]string{http.MethodGet: "read", http.MethodPut: "write", http.MethodDelete: "delete"}[r.Method]
	if err := s.authorize(r, caller, "Microsoft.KeyVault/managedHsm/roleAssignments/"+verb+"/action", scope); err != nil {
		return nil, err
	}
	switch {
	case r.Method == http.MethodGet && name == "":
		return s.listAssignments(r, scope), nil
	case r.Method == http.MethodPut && name != "":
		return s.putAssignment(call{Request: r}, scope, name)
	}
	a, found := s.Roles.Get(scope, name)
	if found && r.Method == http.MethodDelete {
		_, _, err := s.Roles.Delete(scope, name)
		return shown(a), err
	}
	if !found || r.Method != http.MethodGet {
		return nil, &apiError{status: http.StatusNotFound, code: "RoleAssignmentNotFound", message: fmt.Sprintf("Requested role assignment not found (%s at %s).", name, scope)}
	}
	return shown(a), nil
}

// listAssignments knows the one filter there is a use for: principalId eq 'ID'.
func (s *Service) listAssignments(r *http.Request, scope string) any {
	value := []any{}
	for _, a := range s.Roles.List(scope, true) {
		if f := r.URL.Query().Get("$filter"); f == "" || strings.EqualFold(f, "principalId eq '"+a.Principal+"'") {
			value = append(value, shown(a))
		}
	}
	return map[string]any{"value": value}
}

func (s *Service) putAssignment(c call, scope, name string) (any, error) {
	var req assignmentRequest
	if err := decode(c, &req); err != nil {
		return nil, err
	}
	role := req.Properties.RoleDefinitionID
	a := access.Assignment{Name: name, Scope: scope, Role: role[strings.LastIndexByte(role, '/')+1:], Principal: req.Properties.PrincipalID}
	_, err := s.Roles.Put(a)
	switch {
	case errors.Is(err, access.ErrExists), errors.Is(err, access.ErrTaken):
		return nil, &apiError{status: http.StatusConflict, code: "RoleAssignmentExists", message: "The role assignment already exists."}
	case err != nil:
		return nil, badParameter("%v", err)
	}
	return shown(a), nil
}

func shown(a access.Assignment) map[string]any {
	return map[string]any{
		"id": a.Scope + assignmentsPath + "/" + a.Name, "name": a.Name, "type": "Microsoft.Authorization/roleAssignments",
		"properties": map[string]any{"scope": a.Scope, "principalId": a.Principal,
			"roleDefinitionId": "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/" + a.Role},
	}
}
