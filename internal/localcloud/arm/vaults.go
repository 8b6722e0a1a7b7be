package arm

import (
	"cmp"
	"errors"
	"maps"
	"net/http"
	"path"
	"regexp"
	"strings"
	"time"

	"cloister/internal/fault"
)

// Vaults serves the key vaults that are made as resources. A name is of one vault,
// whichever tenant's, as it is part of an address.
type Vaults interface {
	// Open serves a vault, with what it held before if it was closed, at the
	// address at if that is not "". A name of another tenant is fault.Conflict.
	Open(name, at string, standard bool) (url string, err error)
	// Close stops serving a vault and keeps what is in it; Purge forgets that.
	Close(name string) error
	Purge(name string) error
}

const (
	vaultKind        = "microsoft.keyvault/vaults"
	deletedVaultKind = "microsoft.keyvault/locations/deletedvaults"
)

// vaultName is what the service admits:
// https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
var vaultName = regexp.MustCompile(`^[a-zA-Z](-?[a-zA-Z0-9]){2,23}$`)

// retention is how long a deleted vault can be recovered, in days, if its maker
// does not say otherwise.
const retention = 90

func madeVault(s *Service, r *http.Request, id resourceID, made resource) error {
	if s.isFixed(id) || s.Vaults == nil {
		return onlyFixed(s, r, id, made)
	}
	sku, err := checkVault(s, id, made)
	if err != nil {
		return err
	}
	at, deleted := "", s.find(s.deletedVault(id.name))
	if there := s.find(id.path); there != nil {
		at = there.text("vaultUri")
	} else if deleted != nil {
		if made.text("createMode") != "recover" {
			return refuse(http.StatusConflict, "ConflictError", "A vault with the same name already exists in deleted state. You need to either recover or purge existing key vault. Follow this link https://go.microsoft.com/fwlink/?linkid=2149745 for more information on soft delete.")
		}
		at = deleted.text("vaultUri")
	}
	url, err := s.Vaults.Open(id.name, strings.TrimSuffix(at, "/"), sku == "standard")
	if fault.KindOf(err) == fault.Conflict {
		return refuse(http.StatusConflict, "VaultAlreadyExists", "The vault name '%s' is already in use. Vault names are globally unique so it is possible that the name is already taken.", id.name)
	}
	if err != nil {
		return err
	}
	p := made.properties()
	delete(p, "createMode")
	p["vaultUri"], p["enableSoftDelete"], p["provisioningState"] = url+"/", true, "Succeeded"
	p["softDeleteRetentionInDays"] = cmp.Or[any](p["softDeleteRetentionInDays"], retention)
	return s.forget(s.deletedVault(id.name))
}

// checkVault returns the vault's SKU, if what was sent is a vault.
func checkVault(s *Service, id resourceID, made resource) (sku string, err error) {
	p := made.properties()
	if m, ok := p["sku"].(map[string]any); ok {
		sku, _ = m["name"].(string)
	}
	rbac, said := p["enableRbacAuthorization"].(bool)
	switch {
	case len(id.name) > 24 || !vaultName.MatchString(id.name):
		return "", refuse(http.StatusBadRequest, "VaultNameNotValid", "The vault name '%s' is invalid. A vault's name must be between 3-24 alphanumeric characters. The name must begin with a letter, end with a letter or digit, and not contain consecutive hyphens.", id.name)
	case sku != "standard" && sku != "premium":
		return "", refuse(http.StatusBadRequest, "BadRequest", "The sku of a vault is standard or premium.")
	case made["location"] == nil:
		return "", refuse(http.StatusBadRequest, "LocationRequired", "The location property is required for this definition.")
	case !strings.EqualFold(made.text("tenantId"), s.Tenant):
		return "", refuse(http.StatusBadRequest, "BadRequest", "The tenantId of a vault here is '%s'.", s.Tenant)
	case said && !rbac:
		return "", refuse(http.StatusBadRequest, "BadRequest", "The simulated vault checks role assignments and has no access policies.")
	}
	p["enableRbacAuthorization"] = true
	return sku, nil
}

// goneVault soft-deletes: the name stays taken until the vault is purged.
func goneVault(s *Service, r *http.Request, id resourceID) error {
	if s.isFixed(id) {
		return goneFixed(s, r, id)
	}
	there := s.find(id.path)
	if err := s.Vaults.Close(id.name); err != nil {
		return err
	}
	now := s.Server.Now().UTC()
	deleted := resource{"id": s.deletedVault(id.name), "name": id.name, "type": "Microsoft.KeyVault/deletedVaults", "properties": map[string]any{
		"vaultId": id.path, "location": there["location"], "vaultUri": there.text("vaultUri"), "purgeProtectionEnabled": there.properties()["enablePurgeProtection"],
		"deletionDate": now.Format(time.RFC3339), "scheduledPurgeDate": now.AddDate(0, 0, retention).Format(time.RFC3339)}}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keep(func(all map[string]resource) { all[key(s.deletedVault(id.name))] = deleted })
}

// deletedVault is the id of a deleted vault. All are in the one location there is.
func (s *Service) deletedVault(name string) string {
	return "/subscriptions/" + s.Subscription + "/providers/Microsoft.KeyVault/locations/simulated/deletedVaults/" + name
}

func notMade(_ *Service, _ *http.Request, id resourceID, _ resource) error {
	return refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "A '%s' is not made.", id.kind)
}

func notDeleted(_ *Service, _ *http.Request, id resourceID) error {
	return refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "A '%s' is purged by POST.", id.kind)
}

// purgeVault serves POST .../deletedVaults/NAME/purge.
func (s *Service) purgeVault(r *http.Request, caller string, id resourceID) (done bool, status int, body any, err error) {
	vault := parseID(path.Dir(id.path))
	if r.Method != http.MethodPost || vault.kind != deletedVaultKind || !strings.EqualFold(path.Base(id.path), "purge") {
		return false, 0, nil, nil
	}
	if err := s.authorize(caller, "Microsoft.KeyVault/locations/deletedVaults/purge/action", vault); err != nil {
		return true, 0, nil, err
	}
	deleted := s.find(vault.path)
	switch {
	case deleted == nil:
		return true, 0, nil, refuse(http.StatusNotFound, "DeletedVaultNotFound", "The deleted vault '%s' does not exist.", vault.name)
	case deleted.properties()["purgeProtectionEnabled"] == true:
		return true, 0, nil, refuse(http.StatusConflict, "DeletedVaultPurge", "Purge protection is enabled for the vault '%s': it is kept until its retention ends.", vault.name)
	}
	return true, http.StatusOK, nil, errors.Join(s.Vaults.Purge(vault.name), s.forget(vault.path))
}

func (s *Service) forget(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resources[key(id)] == nil {
		return nil
	}
	return s.keep(func(all map[string]resource) { delete(all, key(id)) })
}

// HasVault says whether a vault of that name is there, or deleted and not purged.
func (s *Service) HasVault(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.resources {
		if id := parseID(k); (id.kind == vaultKind || id.kind == deletedVaultKind) && strings.EqualFold(id.name, name) {
			return true
		}
	}
	return false
}

// openVaults serves again what a run before had made.
func (s *Service) openVaults() error {
	for k, r := range maps.All(s.resources) {
		if id := parseID(k); id.kind != vaultKind || s.isFixed(id) {
			continue
		}
		sku, _ := r.properties()["sku"].(map[string]any)
		if _, err := s.Vaults.Open(r["name"].(string), strings.TrimSuffix(r.text("vaultUri"), "/"), sku["name"] == "standard"); err != nil {
			return err
		}
	}
	return nil
}
