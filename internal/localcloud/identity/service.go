package identity

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"cloister/internal/localcloud/wire"

	"github.com/go-jose/go-jose/v4"
)

// Service is the directory. It is safe for concurrent use.
type Service struct {
	managed, authority *wire.Server
	authorityURL       string
	signer             wire.Signer // of tokens
	workload           wire.Signer // of assertions, as a cluster's issuer would
	header             string
	file               string

	applicationsFile string

	mu           sync.Mutex // guards what follows, and writers of its files
	identities   []Identity
	applications []Application
}

// New returns the directory whose keys and identities are in keys.Dir. managed
// serves the managed-identity endpoint, authority the token endpoint at
// authorityURL.
func New(managed, authority *wire.Server, keys wire.Keys, authorityURL string) (*Service, error) {
	s := &Service{managed: managed, authority: authority, authorityURL: authorityURL,
		file: filepath.Join(keys.Dir, "identities.json"), applicationsFile: filepath.Join(keys.Dir, "applications.json")}
	var err error
	if s.signer, err = newSigner(keys, "identity"); err != nil {
		return nil, err
	}
	if s.workload, err = newSigner(keys, "workload"); err != nil {
		return nil, err
	}
	if s.header, err = loadHeader(filepath.Join(keys.Dir, "identity-header")); err != nil {
		return nil, err
	}
	if _, err := wire.LoadJSON(s.file, &s.identities); err != nil {
		return nil, err
	}
	if _, err := wire.LoadJSON(s.applicationsFile, &s.applications); err != nil {
		return nil, err
	}
	for _, name := range []string{CleanRoom, Owner} {
		if _, err := s.In("").AddIdentity(name); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func newSigner(keys wire.Keys, name string) (wire.Signer, error) {
	key, err := keys.RSA(name)
	if err != nil {
		return wire.Signer{}, err
	}
	cert, err := keys.SelfSigned(name, name, key)
	return wire.Signer{Key: key, Chain: []*x509.Certificate{cert}}, err
}

// loadHeader returns the secret of IDENTITY_HEADER, which keeps other local
// users from the endpoint, as a container group's own does.
func loadHeader(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err == nil {
		return string(data), nil
	}
	secret := make([]byte, 24)
	if _, err := rand.Read(secret); err != nil {
		return "", err
	}
	header := hex.EncodeToString(secret)
	return header, wire.WriteFile(path, []byte(header))
}

// Header is the value of IDENTITY_HEADER: a secret of this directory.
func (s *Service) Header() string { return s.header }

// token issues a token for an identity and an audience.
func (s *Service) token(server *wire.Server, i Identity, audience string, life time.Duration) (string, time.Time, error) {
	now := server.Now()
	expires := now.Add(life)
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return "", expires, err
	}
	issuer := issuerOf(i.tenant())
	if audience == federationAudience {
		issuer = s.exchangeIssuer(i.tenant())
	}
	token, err := s.signer.Sign(map[string]any{
		wire.SimulatedClaim: "true",
		"aud":               audience,
		"iss":               issuer,
		"iat":               now.Unix(), "nbf": now.Unix(), "exp": expires.Unix(),
		"appid": i.ClientID, "appidacr": "2", "idp": issuerOf(i.tenant()),
		"oid": i.ObjectID, "sub": i.ObjectID, "tid": i.tenant(),
		"uti": base64.RawURLEncoding.EncodeToString(id), "ver": "1.0",
		"xms_mirid": i.ResourceID,
	}, map[jose.HeaderKey]any{"typ": "JWT"})
	return token, expires, err
}

// who returns the caller's object id and tenant, whichever that is.
func (s *Service) who(token, audience string, now time.Time) (oid, tenant string, err error) {
	payload, err := wire.Verify(token, keySet(s.signer), now)
	if err != nil {
		return "", "", err
	}
	var claims struct {
		Audience string `json:"aud"`
		Issuer   string `json:"iss"`
		ObjectID string `json:"oid"`
		Tenant   string `json:"tid"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return "", "", err
	}
	if claims.Issuer != issuerOf(claims.Tenant) {
		return "", "", fmt.Errorf("issuer %q is not the directory", claims.Issuer)
	}
	if strings.TrimSuffix(claims.Audience, "/") != audience {
		return "", "", fmt.Errorf("AKV10022: Invalid audience. Expected %s, found: %s.", audience, claims.Audience)
	}
	if claims.ObjectID == "" {
		return "", "", errors.New("token has no oid")
	}
	return claims.ObjectID, claims.Tenant, nil
}

// newID is a random UUID.
func newID() string { return uuid(rand.Text()) }

func keySet(signers ...wire.Signer) map[string]*rsa.PublicKey {
	out := map[string]*rsa.PublicKey{}
	for _, s := range signers {
		out[s.KeyID()] = &s.Key.PublicKey
	}
	return out
}
