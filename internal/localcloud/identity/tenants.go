package identity

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"cloister/internal/fault"
	"cloister/internal/localcloud/wire"
)

// TenantOf is the id of a directory by its name here; the name of Tenant is "".
func TenantOf(name string) string {
	if name == "" {
		return Tenant
	}
	return uuid("tenant " + name)
}

// SubscriptionOf is the one subscription of a tenant, by the tenant's name.
func SubscriptionOf(tenant string) string { return uuid(tenanted("subscription", tenant)) }

// tenanted tells the same text of two tenants apart.
func tenanted(text, tenant string) string {
	if tenant == "" {
		return text
	}
	return text + " of tenant " + tenant
}

// tenantForm is what a tenant may be called: it is a storage account's name too,
// and part of its containers' names (3 to 63 characters, all told) at Azurite.
var tenantForm = regexp.MustCompile(`^[a-z][a-z0-9]{2,19}$`)

// CheckTenant refuses, as fault.Usage, a name that no tenant can have.
func CheckTenant(name string) error {
	if !tenantForm.MatchString(name) {
		return fault.Errorf(fault.Usage, "use 3 to 20 lower-case letters and digits, a letter first", "tenant name %.80q", name)
	}
	return nil
}

// Directory is one tenant's: who is in it, and whose tokens its resources believe.
type Directory struct {
	service *Service
	name    string
}

// In is the directory of a tenant's name.
func (s *Service) In(tenant string) Directory { return Directory{s, tenant} }

// ID is the tenant's.
func (d Directory) ID() string { return TenantOf(d.name) }

// Authority is the address of the tenant at the login service.
func (d Directory) Authority() string { return d.service.authorityURL + "/" + d.ID() }

// WrongTenant refuses a token of another tenant's directory. Its text is the key
// vault's; other services have words of their own.
type WrongTenant struct{ Expected, Found string } // issuers

func (e WrongTenant) Error() string {
	return fmt.Sprintf("AKV10032: Invalid issuer. Expected one of %s, found %s.", e.Expected, e.Found)
}

// Authenticate returns the object id of the caller that token names, when this
// directory issued it for audience and now is within its time. A token of another
// tenant is WrongTenant.
func (d Directory) Authenticate(token, audience string, now time.Time) (string, error) {
	who, tenant, err := d.service.who(token, audience, now)
	if err == nil && tenant != d.ID() {
		return "", WrongTenant{issuerOf(d.ID()), issuerOf(tenant)}
	}
	return who, err
}

// AddIdentity returns the directory's identity of a name, made if there is none.
// Errors are of kind fault.Usage for a name that cannot be.
func (d Directory) AddIdentity(name string) (Identity, error) {
	if name == "" || len(name) > 128 || strings.ContainsFunc(name, badInName) {
		return Identity{}, fault.Errorf(fault.Usage, "use letters, digits, - and _", "identity name %q", name)
	}
	if d.name != "" {
		if err := CheckTenant(d.name); err != nil {
			return Identity{}, err
		}
	}
	return d.add(newIdentity(d.name, name), func(i Identity) bool { return i.Name == name && i.tenant() == d.ID() })
}

// AddResource returns the identity with an ARM id, made if there is none.
func (d Directory) AddResource(id string) (Identity, error) {
	if name := path.Base(id); strings.EqualFold(newIdentity(d.name, name).ResourceID, id) {
		return d.AddIdentity(name)
	}
	added := newIdentity(d.name, strings.ToLower(id))
	added.ResourceID = id
	return d.add(added, func(i Identity) bool { return strings.EqualFold(i.ResourceID, id) })
}

// RemoveResource is the Service's.
func (d Directory) RemoveResource(id string) error { return d.service.RemoveResource(id) }

// Trust is the Service's.
func (d Directory) Trust(resourceID, name string, t *Trust) error {
	return d.service.Trust(resourceID, name, t)
}

// add returns the identity that is there already, or adds one.
func (d Directory) add(added Identity, there func(Identity) bool) (Identity, error) {
	found, ok := d.service.find(there)
	if ok {
		return found, nil
	}
	err := d.service.change(func(all []Identity) []Identity {
		if i := slices.IndexFunc(all, there); i >= 0 { // made meanwhile
			added = all[i]
			return all
		}
		return append(all, added)
	})
	return added, err
}

// tenant is the directory that an identity is in.
func (i Identity) tenant() string { return cmp.Or(i.Tenant, Tenant) }

// issuerOf is what a directory's tokens for its own resources name. Azurite
// demands this prefix too.
func issuerOf(tenant string) string { return "https://sts.windows.net/" + tenant + "/" }

// exchangeIssuer is what its tokens name that are exchanged for others.
func (s *Service) exchangeIssuer(tenant string) string {
	return s.authorityURL + "/" + tenant + "/v2.0"
}

// Application is a multi-tenant application. In each tenant that admits it, it has
// a service principal: an Identity with the application's client id.
type Application struct {
	ID       string  `json:"id"`    // of the object, in its own tenant
	ClientID string  `json:"appId"` // in every tenant
	Name     string  `json:"displayName"`
	Home     string  `json:"home"`
	Trusts   []Trust `json:"trusts"`
}

// changeApplications replaces the applications, on disk too.
func (s *Service) changeApplications(f func([]Application) ([]Application, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Application, len(s.applications))
	for i, a := range s.applications {
		a.Trusts = slices.Clone(a.Trusts)
		all[i] = a
	}
	all, err := f(all)
	if err != nil {
		return err
	}
	if err := wire.SaveJSON(s.applicationsFile, all); err != nil {
		return err
	}
	s.applications = all
	return nil
}

func (s *Service) findApplication(match func(Application) bool) (Application, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.applications, match); i >= 0 {
		return s.applications[i], true
	}
	return Application{}, false
}

// trusts are the federated credentials of an identity: its own, and where it is an
// application's service principal the application's. The directory believes its
// own tokens in them only for an application whose home is their tenant.
func (s *Service) trusts(i Identity) []Trust {
	list := append([]Trust{{Issuer: s.WorkloadIssuer(), Subject: i.Subject, Audience: federationAudience}}, i.Trusts...)
	if a, ok := s.findApplication(func(a Application) bool { return a.ClientID == i.ClientID }); ok {
		for _, t := range a.Trusts {
			if t.Issuer == s.WorkloadIssuer() || t.Issuer == s.exchangeIssuer(a.Home) {
				list = append(list, t)
			}
		}
	}
	return list
}
