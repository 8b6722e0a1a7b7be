package attestation

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"

	"github.com/go-jose/go-jose/v4"
)

// apiVersion is the one version of the service's interface that takes SEV-SNP
// evidence and is not a preview.
const apiVersion = "2022-08-01"

// tokenLife is how long the real service's tokens are valid.
const tokenLife = 8 * time.Hour

// Service is the attestation service. It is safe for concurrent use.
type Service struct {
	server   *wire.Server
	platform *platform.Platform
	url      string
	keys     wire.Keys

	mu      sync.Mutex    // guards signers
	signers []wire.Signer // newest first
}

// generations is the stored count of signing keys ever made.
type generations struct {
	Count int `json:"count"`
}

// New returns the service under the address url, with the signing keys of the
// directory.
func New(server *wire.Server, p *platform.Platform, keys wire.Keys, url string) (*Service, error) {
	s := &Service{server: server, platform: p, url: url, keys: keys}
	stored := generations{Count: 1}
	if _, err := wire.LoadJSON(s.generationsFile(), &stored); err != nil {
		return nil, err
	}
	for n := 1; n <= stored.Count; n++ {
		if err := s.addSigner(n); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Service) generationsFile() string { return s.keys.Dir + "/attestation-keys.json" }

func (s *Service) addSigner(n int) error {
	name := fmt.Sprintf("attestation-%d", n)
	key, err := s.keys.RSA(name)
	if err != nil {
		return err
	}
	cert, err := s.keys.SelfSigned(name, "attestation "+s.url, key)
	if err != nil {
		return err
	}
	signer := wire.Signer{Key: key, Chain: []*x509.Certificate{cert}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signers = append([]wire.Signer{signer}, s.signers...)
	return nil
}

// Rotate makes a new signing key for the tokens to come. The old keys stay
// published, so that tokens already issued verify until they expire.
func (s *Service) Rotate() error {
	s.mu.Lock()
	n := len(s.signers) + 1
	s.mu.Unlock()
	if err := s.addSigner(n); err != nil {
		return err
	}
	return wire.SaveJSON(s.generationsFile(), generations{Count: n})
}

// URL is the service's address and the issuer in its tokens: what a release
// policy calls the authority.
func (s *Service) URL() string { return s.url }

// PublicKeys returns the keys that may sign this authority's tokens, by key id.
func (s *Service) PublicKeys() map[string]*rsa.PublicKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]*rsa.PublicKey{}
	for _, signer := range s.signers {
		out[signer.KeyID()] = &signer.Key.PublicKey
	}
	return out
}

// Handler serves the wire protocol.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /attest/SevSnpVm", s.attest)
	mux.HandleFunc("POST /attest/AzureGuest", s.attestGuest)
	mux.HandleFunc("GET /certs", s.certs)
	mux.HandleFunc("GET /.well-known/openid-configuration", s.configuration)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		wire.WriteError(w, http.StatusNotFound, "NotFound", "The simulated attestation service has no such operation.", "")
	})
	return s.server.Wrap(mux)
}

// checkVersion holds a request to the one version of its operation.
func checkVersion(r *http.Request, supported string) error {
	switch version := r.URL.Query().Get("api-version"); version {
	case supported:
		return nil
	case "":
		return errors.New("the api-version query parameter is missing")
	default:
		return fmt.Errorf("api-version %q is not supported; the supported version is %s", version, supported)
	}
}

func (s *Service) attest(w http.ResponseWriter, r *http.Request) {
	if err := checkVersion(r, apiVersion); err != nil {
		refuse(w, err)
		return
	}
	var body request
	if err := wire.ReadJSON(r, &body); err != nil {
		refuse(w, err)
		return
	}
	token, err := s.issue(body)
	if err != nil {
		wire.Note(r, "%v", err)
		refuse(w, err)
		return
	}
	wire.WriteJSON(w, http.StatusOK, map[string]string{"token": token})
}

// refuse answers with the service's one error form. The real texts are not
// published; these name the failed check.
func refuse(w http.ResponseWriter, err error) {
	wire.WriteError(w, http.StatusBadRequest, "InvalidParameter", err.Error(), "")
}

func (s *Service) issue(body request) (string, error) {
	evidence, err := body.decode()
	if err != nil {
		return "", err
	}
	if err := s.verify(evidence); err != nil {
		return "", err
	}
	return s.sign(reportClaims(evidence))
}

// sign makes a token of claims.
func (s *Service) sign(claims map[string]any) (string, error) {
	id := make([]byte, 32)
	if _, err := rand.Read(id); err != nil {
		return "", err
	}
	now := s.server.Now()
	for name, value := range map[string]any{
		"iss": s.url, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(tokenLife).Unix(),
		"jti": hex.EncodeToString(id),
	} {
		claims[name] = value
	}
	s.mu.Lock()
	signer := s.signers[0]
	s.mu.Unlock()
	return signer.Sign(claims, map[jose.HeaderKey]any{"jku": s.url + "/certs", "typ": "JWT"})
}

// certs publishes the keys as the service does: as certificates, without n and e.
func (s *Service) certs(w http.ResponseWriter, _ *http.Request) {
	type jwk struct {
		KeyID string   `json:"kid"`
		Type  string   `json:"kty"`
		X5C   []string `json:"x5c"`
	}
	s.mu.Lock()
	keys := make([]jwk, 0, len(s.signers))
	for _, signer := range s.signers {
		keys = append(keys, jwk{KeyID: signer.KeyID(), Type: "RSA", X5C: signer.X5C()})
	}
	s.mu.Unlock()
	wire.WriteJSON(w, http.StatusOK, map[string]any{"keys": keys})
}

func (s *Service) configuration(w http.ResponseWriter, _ *http.Request) {
	wire.WriteJSON(w, http.StatusOK, map[string]any{
		"issuer":                                s.url,
		"jwks_uri":                              s.url + "/certs",
		"response_types_supported":              []string{"token", "none"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"claims_supported": []string{"iss", "iat", "nbf", "exp", "jti", "x-ms-attestation-type",
			"x-ms-compliance-status", "x-ms-runtime", wire.SimulatedClaim},
	})
}
