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
}

// newIdentity derives everything from the name: the same name is the same
// principal in every development directory.
func newIdentity(name string) Identity {
	return Identity{
		Name:     name,
		ClientID: uuid("client " + name),
		ObjectID: uuid("object " + name),
		ResourceID: path.Join("/subscriptions", uuid("subscription"),
			"resourceGroups/simulated/providers/Microsoft.ManagedIdentity/userAssignedIdentities", name),
		Subject: "system:serviceaccount:simulated:" + name,
	}
}

// uuid is a UUID of version 8 (RFC 9562: vendor-specific) made from text.
func uuid(text string) string {
	sum := sha256.Sum256([]byte("Cloister simulated directory: " + text))
	sum[6], sum[8] = 0x80|sum[6]&0xf, 0x80|sum[8]&0x3f
	h := hex.EncodeToString(sum[:16])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// AddIdentity returns the named identity, made if there is none. Errors are of
// kind fault.Usage for a name that cannot be.
func (s *Service) AddIdentity(name string) (Identity, error) {
	if name == "" || len(name) > 128 || strings.ContainsFunc(name, badInName) {
		return Identity{}, fault.Errorf(fault.Usage, "use letters, digits, - and _", "identity name %q", name)
	}
	s.mu.Lock()
	i := slices.IndexFunc(s.identities, func(i Identity) bool { return i.Name == name })
	if i >= 0 {
		defer s.mu.Unlock()
		return s.identities[i], nil
	}
	added := newIdentity(name)
	s.identities = append(s.identities, added)
	all := slices.Clone(s.identities)
	s.mu.Unlock()
	return added, wire.SaveJSON(s.file, all)
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
