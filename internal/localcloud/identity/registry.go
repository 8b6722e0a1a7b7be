package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"slices"
	"strings"

	"cloister/internal/fault"
	"cloister/internal/localcloud/wire"
)

// Identity is one principal of the directory.
type Identity struct {
	Name       string `json:"name"`
	ClientID   string `json:"clientId"`
	ObjectID   string `json:"objectId"`
	ResourceID string `json:"resourceId"`
	// Subject is what an assertion must name for this identity, under the
	// directory's own simulated issuer of workload tokens.
	Subject string `json:"subject"`
	// Trusts are the federated credentials that were added to it.
	Trusts []Trust `json:"trusts,omitempty"`
	// Tenant is the id of the directory that it is in; "" is the package's.
	Tenant string `json:"tenant,omitempty"`
}

// Trust is a federated credential: an assertion of the issuer's for the subject
// and the audience stands for the identity. The issuers that can be verified here
// are the simulated cluster's and the directory itself.
type Trust struct {
	Name     string `json:"name"`
	Issuer   string `json:"issuer"`
	Subject  string `json:"subject"`
	Audience string `json:"audience"`
}

// newIdentity derives everything from the tenant's name and its own: the same
// names are the same principal in every development directory.
func newIdentity(tenant, name string) Identity {
	i := Identity{
		Name:     name,
		ClientID: uuid(tenanted("client "+name, tenant)),
		ObjectID: uuid(tenanted("object "+name, tenant)),
		ResourceID: path.Join("/subscriptions", SubscriptionOf(tenant),
			"resourceGroups/simulated/providers/Microsoft.ManagedIdentity/userAssignedIdentities", name),
		Subject: "system:serviceaccount:simulated:" + name,
	}
	if tenant != "" {
		i.Tenant, i.Subject = TenantOf(tenant), "system:serviceaccount:"+tenant+":"+name
	}
	return i
}

// uuid is a UUID of version 8 (RFC 9562: vendor-specific) made from text.
func uuid(text string) string {
	sum := sha256.Sum256([]byte("Cloister simulated directory: " + text))
	sum[6], sum[8] = 0x80|sum[6]&0xf, 0x80|sum[8]&0x3f
	h := hex.EncodeToString(sum[:16])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// RemoveResource deletes the identity with an ARM id. Tokens that it has stay
// good for their time, as with the real one.
func (s *Service) RemoveResource(id string) error {
	return s.change(func(all []Identity) []Identity {
		return slices.DeleteFunc(all, func(i Identity) bool { return strings.EqualFold(i.ResourceID, id) })
	})
}

// Trust sets or, with nil, removes a federated credential of an identity. The
// service has at most 20 of them.
func (s *Service) Trust(resourceID, name string, t *Trust) error {
	const most = 20
	i, ok := s.find(func(i Identity) bool { return strings.EqualFold(i.ResourceID, resourceID) })
	if !ok {
		return fault.Errorf(fault.NotFound, "", "there is no identity %s", resourceID)
	}
	trusts := slices.DeleteFunc(slices.Clone(i.Trusts), func(t Trust) bool { return t.Name == name })
	if t != nil {
		trusts = append(trusts, *t)
	}
	if len(trusts) > most {
		return fault.Errorf(fault.Conflict, "", "an identity has at most %d federated credentials", most)
	}
	return s.change(func(all []Identity) []Identity {
		for n := range all {
			if strings.EqualFold(all[n].ResourceID, resourceID) {
				all[n].Trusts = trusts
			}
		}
		return all
	})
}

// change replaces the identities, on disk too.
func (s *Service) change(f func([]Identity) []Identity) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := f(slices.Clone(s.identities))
	if err := wire.SaveJSON(s.file, all); err != nil {
		return err
	}
	s.identities = all
	return nil
}

func badInName(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
}

// find returns the identity for which match holds.
func (s *Service) find(match func(Identity) bool) (Identity, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.identities, match); i >= 0 {
		return s.identities[i], true
	}
	return Identity{}, false
}
