package identity

import (
	"cmp"
	"slices"

	"cloister/internal/fault"
	"cloister/internal/localcloud/wire"
)

// TenantOf is the id of another directory by its name here. All the simulated
// cloud's resources are in Tenant, whose name is "": an identity of another tenant
// gets nothing there by itself.
func TenantOf(name string) string {
	if name == "" {
		return Tenant
	}
	return uuid("tenant " + name)
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

// AddIdentityIn is AddIdentity in the directory of a tenant's name. A name is of
// one identity, whatever the tenant.
func (s *Service) AddIdentityIn(tenant, name string) (Identity, error) {
	if tenant == "" {
		return s.AddIdentity(name)
	}
	if there, ok := s.find(func(i Identity) bool { return i.Name == name }); ok {
		if there.tenant() != TenantOf(tenant) {
			return there, fault.Errorf(fault.Conflict, "use another name", "the identity %s is of another tenant", name)
		}
		return there, nil
	}
	added := newIdentity(name)
	added.Tenant = TenantOf(tenant)
	return added, s.change(func(all []Identity) []Identity { return append(all, added) })
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
