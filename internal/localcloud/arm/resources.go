package arm

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"cloister/internal/localcloud/identity"
	"cloister/internal/localcloud/wire"
)

// kindOf is a type of resource: its name, and what else is done when one is made
// or deleted.
type kindOf struct {
	name string
	// made completes a resource that a client sent, before it is kept.
	made func(*Service, *http.Request, resourceID, resource) error
	// gone is called before a resource is deleted; nil where nothing is to be done.
	gone func(*Service, *http.Request, resourceID) error
}

// types are the types there are, by their lower-case names.
var types = map[string]kindOf{
	"microsoft.resources/resourcegroups":                                            {"Microsoft.Resources/subscriptions/resourceGroups", succeeded, nil},
	"microsoft.managedidentity/userassignedidentities":                              {"Microsoft.ManagedIdentity/userAssignedIdentities", madeIdentity, goneIdentity},
	"microsoft.managedidentity/userassignedidentities/federatedidentitycredentials": {"Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials", madeTrust, goneTrust},
	"microsoft.keyvault/vaults":                                                     {"Microsoft.KeyVault/vaults", madeVault, goneVault},
	deletedVaultKind:                                                                {"Microsoft.KeyVault/locations/deletedVaults", notMade, notDeleted},
	"microsoft.keyvault/managedhsms":                                                {"Microsoft.KeyVault/managedHSMs", onlyFixed, goneFixed},
	"microsoft.storage/storageaccounts":                                             {"Microsoft.Storage/storageAccounts", onlyFixed, goneFixed},
	containerKind:                                                                   {"Microsoft.Storage/storageAccounts/blobServices/containers", madeContainer, goneContainer},
	groupKind:                                                                       {"Microsoft.ContainerInstance/containerGroups", madeGroup, goneGroup},
	assignmentKind:                                                                  {"Microsoft.Authorization/roleAssignments", nil, nil},
}

const (
	containerKind  = "microsoft.storage/storageaccounts/blobservices/containers"
	assignmentKind = "microsoft.authorization/roleassignments"
)

func (s *Service) get(r *http.Request, id resourceID) (int, any, error) {
	found := s.find(id.path)
	ok := found != nil
	if id.kind == containerKind && s.Containers != nil {
		// Whoever may use the account makes containers without the management plane.
		status, err := s.Containers.Container(r, http.MethodHead, id.name)
		if err != nil {
			return 0, nil, err
		}
		if ok = status == http.StatusOK; ok && found == nil {
			found = describe(id, types[id.kind], resource{})
		}
	}
	if !ok {
		return 0, nil, notFound(id)
	}
	return http.StatusOK, s.withState(found), nil
}

func (s *Service) find(id string) resource {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resources[key(id)]
}

// list gives the resources of a type in a subscription, a group or a resource.
func (s *Service) list(id resourceID) (int, any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value := []resource{}
	for _, k := range slices.Sorted(maps.Keys(s.resources)) {
		other := parseID(k)
		if other.kind == id.kind && strings.HasPrefix(k, key(id.scope)+"/") {
			value = append(value, s.withState(s.resources[k]))
		}
	}
	return http.StatusOK, map[string]any{"value": value}, nil
}

// put makes a resource or replaces it. What it was stays where making fails.
func (s *Service) put(r *http.Request, id resourceID, t kindOf) (int, any, error) {
	sent := resource{}
	if err := wire.ReadJSON(r, &sent); err != nil {
		return 0, nil, refuse(http.StatusBadRequest, "InvalidRequestContent", "%v", err)
	}
	made := describe(id, t, sent)
	if above := id.parent(); above != "" && id.kind != containerKind && s.find(above) == nil {
		return 0, nil, refuse(http.StatusNotFound, "ParentResourceNotFound", "Failed to perform 'write' on resource(s) of type '%s', because the parent resource '%s' could not be found.", id.kind, above)
	}
	if err := t.made(s, r, id, made); err != nil {
		return 0, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, there := s.resources[key(id.path)]
	if err := s.keep(func(all map[string]resource) { all[key(id.path)] = made }); err != nil {
		return 0, nil, err
	}
	if there {
		return http.StatusOK, s.withState(made), nil
	}
	return http.StatusCreated, s.withState(made), nil
}

// describe is a resource as it is shown, made of what was sent.
func describe(id resourceID, t kindOf, sent resource) resource {
	sent["id"], sent["name"], sent["type"] = id.path, id.name, t.name
	if _, ok := sent["properties"].(map[string]any); !ok {
		sent["properties"] = map[string]any{}
	}
	return sent
}

func (r resource) properties() map[string]any { return r["properties"].(map[string]any) }

func (r resource) text(name string) string {
	text, _ := r.properties()[name].(string)
	return text
}

// remove deletes a resource and what is below it.
func (s *Service) remove(r *http.Request, id resourceID, t kindOf) (int, any, error) {
	if s.find(id.path) == nil && id.kind != containerKind {
		return http.StatusNoContent, nil, nil
	}
	if t.gone != nil {
		if err := t.gone(s, r, id); err != nil {
			return 0, nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.keep(func(all map[string]resource) {
		maps.DeleteFunc(all, func(k string, _ resource) bool {
			return k == key(id.path) || strings.HasPrefix(k, key(id.path)+"/")
		})
	})
	return http.StatusOK, nil, err
}

// keep changes the resources, on disk first. s.mu is held.
func (s *Service) keep(change func(map[string]resource)) error {
	all := maps.Clone(s.resources)
	change(all)
	if err := wire.SaveJSON(s.File, all); err != nil {
		return err
	}
	s.resources = all
	return nil
}

func succeeded(_ *Service, _ *http.Request, _ resourceID, made resource) error {
	made.properties()["provisioningState"] = "Succeeded"
	return nil
}

func madeIdentity(s *Service, _ *http.Request, id resourceID, made resource) error {
	i, err := s.Directory.AddResource(id.path)
	if err != nil {
		return refuse(http.StatusBadRequest, "InvalidResourceName", "%v", err)
	}
	made["properties"] = map[string]any{"tenantId": s.Tenant, "principalId": i.ObjectID, "clientId": i.ClientID}
	return nil
}

func goneIdentity(s *Service, _ *http.Request, id resourceID) error {
	return s.Directory.RemoveResource(id.path)
}

func madeTrust(s *Service, _ *http.Request, id resourceID, made resource) error {
	t := identity.Trust{Name: id.name, Issuer: made.text("issuer"), Subject: made.text("subject")}
	list, _ := made.properties()["audiences"].([]any)
	if t.Issuer == "" || t.Subject == "" || len(list) != 1 {
		return refuse(http.StatusBadRequest, "BadRequest", "A federated identity credential has an issuer, a subject and exactly one audience.")
	}
	t.Audience, _ = list[0].(string)
	if err := s.Directory.Trust(id.parent(), id.name, &t); err != nil {
		return refuse(http.StatusBadRequest, "BadRequest", "%v", err)
	}
	return nil
}

func goneTrust(s *Service, _ *http.Request, id resourceID) error {
	return s.Directory.Trust(id.parent(), id.name, nil)
}

func (s *Service) isFixed(id resourceID) bool {
	for fixed := range s.Fixed {
		if key(fixed) == key(id.path) {
			return true
		}
	}
	return false
}

// onlyFixed lets what is there be put again, and nothing else be made.
func onlyFixed(s *Service, _ *http.Request, id resourceID, made resource) error {
	for fixed, r := range s.Fixed {
		if key(fixed) == key(id.path) {
			clear(made)
			maps.Copy(made, r)
			return nil
		}
	}
	return refuse(http.StatusConflict, "QuotaExceeded", "The simulated cloud has one %s, and makes no other.", id.kind)
}

func goneFixed(*Service, *http.Request, resourceID) error {
	return refuse(http.StatusConflict, "ScopeLocked", "What the simulated cloud always has cannot be deleted.")
}

func madeContainer(s *Service, r *http.Request, id resourceID, made resource) error {
	if s.Containers == nil {
		return nil
	}
	status, err := s.Containers.Container(r, http.MethodPut, id.name)
	if err == nil && status != http.StatusCreated && status != http.StatusConflict {
		err = refuse(status, "ContainerOperationFailure", "The blob service answers %d.", status)
	}
	return err
}

func goneContainer(s *Service, r *http.Request, id resourceID) error {
	if s.Containers == nil {
		return nil
	}
	status, err := s.Containers.Container(r, http.MethodDelete, id.name)
	if err == nil && status != http.StatusAccepted && status != http.StatusNotFound {
		err = refuse(status, "ContainerOperationFailure", "The blob service answers %d.", status)
	}
	return err
}
