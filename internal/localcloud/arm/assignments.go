package arm

import (
	"errors"
	"net/http"
	"strings"

	"cloister/internal/localcloud/access"
	"cloister/internal/localcloud/wire"
)

type assignmentRequest struct {
	Properties struct {
		RoleDefinitionID string `json:"roleDefinitionId"`
		PrincipalID      string `json:"principalId"`
		PrincipalType    string `json:"principalType"`
	} `json:"properties"`
}

// assignment serves role assignments, which are in the book and not among the
// resources.
func (s *Service) assignment(r *http.Request, _ string, id resourceID) (int, any, error) {
	switch {
	case r.Method == http.MethodGet && id.name == "":
		return http.StatusOK, s.listAssignments(r, id.scope), nil
	case r.Method == http.MethodPut:
		return s.putAssignment(r, id)
	}
	a, found := s.Roles.Get(id.scope, id.name)
	switch {
	case !found && r.Method == http.MethodDelete:
		return http.StatusNoContent, nil, nil
	case !found:
		return 0, nil, refuse(http.StatusNotFound, "RoleAssignmentNotFound", "The role assignment '%s' is not found.", id.name)
	case r.Method == http.MethodDelete:
		_, _, err := s.Roles.Delete(id.scope, id.name)
		return http.StatusOK, shown(a), err
	}
	return http.StatusOK, shown(a), nil
}

// listAssignments knows the filters atScope() and principalId eq 'ID'.
func (s *Service) listAssignments(r *http.Request, scope string) any {
	filter, value := r.URL.Query().Get("$filter"), []any{}
	for _, a := range s.Roles.List(scope, filter != "atScope()") {
		if filter == "" || filter == "atScope()" || strings.EqualFold(filter, "principalId eq '"+a.Principal+"'") {
			value = append(value, shown(a))
		}
	}
	return map[string]any{"value": value}
}

func (s *Service) putAssignment(r *http.Request, id resourceID) (int, any, error) {
	var req assignmentRequest
	if err := wire.ReadJSON(r, &req); err != nil {
		return 0, nil, refuse(http.StatusBadRequest, "InvalidRequestContent", "%v", err)
	}
	p := req.Properties
	if p.PrincipalID == "" {
		return 0, nil, refuse(http.StatusBadRequest, "BadRequestFormat", "The property principalId is missing.")
	}
	a := access.Assignment{Name: id.name, Scope: id.scope, Role: p.RoleDefinitionID[strings.LastIndexByte(p.RoleDefinitionID, '/')+1:],
		Principal: p.PrincipalID, PrincipalType: p.PrincipalType}
	made, err := s.Roles.Put(a)
	switch {
	case errors.Is(err, access.ErrExists):
		return 0, nil, refuse(http.StatusConflict, "RoleAssignmentExists", "The role assignment already exists.")
	case errors.Is(err, access.ErrTaken):
		return 0, nil, refuse(http.StatusConflict, "RoleAssignmentUpdateNotPermitted", "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.")
	case err != nil:
		return 0, nil, refuse(http.StatusBadRequest, "RoleDefinitionDoesNotExist", "%v", err)
	case made:
		return http.StatusCreated, shown(a), nil
	}
	return http.StatusOK, shown(a), nil
}

func shown(a access.Assignment) map[string]any {
	return map[string]any{
		"id": strings.TrimSuffix(a.Scope, "/") + "/providers/Microsoft.Authorization/roleAssignments/" + a.Name, "name": a.Name,
		"type": "Microsoft.Authorization/roleAssignments",
		"properties": map[string]any{"scope": a.Scope, "principalId": a.Principal, "principalType": a.PrincipalType,
			"roleDefinitionId": "/providers/Microsoft.Authorization/roleDefinitions/" + a.Role},
	}
}
