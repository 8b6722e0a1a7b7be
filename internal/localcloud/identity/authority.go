package identity

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"

	"cloister/internal/localcloud/wire"

	"github.com/go-jose/go-jose/v4"
)

// assertionType is the form of proof that the token endpoint takes (RFC 7523).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// AuthorityHandler serves the authority: its configuration, keys and tokens, and
// the simulated cluster's issuer of assertions.
func (s *Service) AuthorityHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{tenant}/v2.0/.well-known/openid-configuration", s.configuration)
	mux.HandleFunc("GET /{tenant}/discovery/v2.0/keys", func(w http.ResponseWriter, _ *http.Request) {
		wire.WriteJSON(w, http.StatusOK, jwks(s.signer))
	})
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/token", s.exchange)
	mux.HandleFunc("GET /workload/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		wire.WriteJSON(w, http.StatusOK, map[string]string{"issuer": s.WorkloadIssuer(), "jwks_uri": s.WorkloadIssuer() + "/keys"})
	})
	mux.HandleFunc("GET /workload/keys", func(w http.ResponseWriter, _ *http.Request) {
		wire.WriteJSON(w, http.StatusOK, jwks(s.workload))
	})
	s.graph(mux)
	return s.authority.Wrap(mux)
}

// WorkloadIssuer is the issuer of FederatedToken.
func (s *Service) WorkloadIssuer() string { return s.authorityURL + "/workload" }

func (s *Service) configuration(w http.ResponseWriter, r *http.Request) {
	if id := r.PathValue("tenant"); !s.known(id) {
		s.oauthError(w, noTenant(id))
		return
	}
	tenant := s.authorityURL + "/" + r.PathValue("tenant")
	wire.WriteJSON(w, http.StatusOK, map[string]any{
		"issuer":                                tenant + "/v2.0",
		"authorization_endpoint":                tenant + "/oauth2/v2.0/authorize",
		"token_endpoint":                        tenant + "/oauth2/v2.0/token",
		"jwks_uri":                              tenant + "/discovery/v2.0/keys",
		"token_endpoint_auth_methods_supported": []string{"private_key_jwt"},
		"response_types_supported":              []string{"code"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"subject_types_supported":               []string{"pairwise"},
	})
}

func noTenant(id string) refusal {
	return refusal{http.StatusBadRequest, "invalid_tenant", 90002, fmt.Sprintf("Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.", id)}
}

// known says whether anybody is in a tenant.
func (s *Service) known(tenant string) bool {
	_, ok := s.find(func(i Identity) bool { return i.tenant() == tenant })
	return ok
}

func jwks(s wire.Signer) map[string]any {
	return map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "use": "sig", "kid": s.KeyID(), "x5t": s.KeyID(), "x5c": s.X5C(),
		"n": base64.RawURLEncoding.EncodeToString(s.Key.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(s.Key.E)).Bytes()),
	}}}
}

// refusal is an error of the token endpoint: an OAuth code, and the directory's
// own number in the description.
type refusal struct {
	status int
	code   string
	number int
	text   string
}

func (r refusal) Error() string { return fmt.Sprintf("AADSTS%d: %s", r.number, r.text) }

func (s *Service) exchange(w http.ResponseWriter, r *http.Request) {
	i, audience, err := s.grant(r)
	var token string
	if err == nil {
		wire.SetCaller(r, i.ObjectID)
		token, _, err = s.token(s.authority, i, audience, federatedLife)
	}
	if err != nil {
		s.oauthError(w, err)
		return
	}
	seconds := int(federatedLife / time.Second)
	wire.WriteJSON(w, http.StatusOK, map[string]any{
		"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token,
	})
}

func (s *Service) oauthError(w http.ResponseWriter, err error) {
	r := refusal{status: http.StatusInternalServerError, code: "server_error", number: 90033, text: err.Error()}
	errors.As(err, &r)
	wire.WriteJSON(w, r.status, map[string]any{
		"error": r.code, "error_description": r.Error(), "error_codes": []int{r.number},
		"timestamp": s.authority.Now().UTC().Format("2006-01-02 15:04:05Z"),
	})
}

// grant checks a client-credentials request and returns for whom and for what
// it is. The numbers are the directory's for the same refusals.
func (s *Service) grant(r *http.Request) (Identity, string, error) {
	if err := r.ParseForm(); err != nil {
		return Identity{}, "", refusal{http.StatusBadRequest, "invalid_request", 900144, err.Error()}
	}
	form := r.PostForm.Get
	if g := form("grant_type"); g != "client_credentials" {
		return Identity{}, "", refusal{http.StatusBadRequest, "unsupported_grant_type", 70003, fmt.Sprintf("The app requested an unsupported grant type %q.", g)}
	}
	audience, ok := audienceOf(form("scope"))
	if !ok {
		return Identity{}, "", refusal{http.StatusBadRequest, "invalid_scope", 1002012, fmt.Sprintf("The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier.", form("scope"))}
	}
	if id := r.PathValue("tenant"); !s.known(id) {
		return Identity{}, "", noTenant(id)
	}
	i, ok := s.find(func(i Identity) bool {
		return strings.EqualFold(i.ClientID, form("client_id")) && i.tenant() == r.PathValue("tenant")
	})
	if !ok {
		return Identity{}, "", refusal{http.StatusBadRequest, "unauthorized_client", 700016, fmt.Sprintf("Application with identifier '%s' was not found in the directory '%s'. "+
			"This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. "+
			"You may have sent your authentication request to the wrong tenant.", form("client_id"), r.PathValue("tenant"))}
	}
	if form("client_assertion_type") != assertionType {
		return Identity{}, "", refusal{http.StatusUnauthorized, "invalid_client", 7000216, "'client_assertion', 'client_assertion_type' is required for the 'client_credentials' grant type."}
	}
	return i, audience, s.checkAssertion(i, form("client_assertion"))
}

// audienceOf returns the resource among the scopes, which clients send together
// with openid and the like.
func audienceOf(scopes string) (string, bool) {
	for scope := range strings.FieldsSeq(scopes) {
		if resource, ok := strings.CutSuffix(scope, "/.default"); ok && resource != "" {
			return resource, true
		}
	}
	return "", false
}

// checkAssertion verifies a workload's assertion: signature, time, and the three
// values that a federated credential pins.
func (s *Service) checkAssertion(i Identity, assertion string) error {
	payload, err := wire.Verify(assertion, keySet(s.workload, s.signer), s.authority.Now())
	if err != nil {
		return refusal{http.StatusUnauthorized, "invalid_client", 700027, "Client assertion failed signature validation: " + err.Error()}
	}
	var claims struct {
		Issuer   string    `json:"iss"`
		Subject  string    `json:"sub"`
		Audience audiences `json:"aud"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return refusal{http.StatusUnauthorized, "invalid_client", 50027, "JWT token is invalid or malformed."}
	}
	if !slices.ContainsFunc(s.trusts(i), func(t Trust) bool {
		return claims.Issuer == t.Issuer && claims.Subject == t.Subject && slices.Contains(claims.Audience, t.Audience)
	}) {
		return refusal{http.StatusUnauthorized, "invalid_client", 700213, fmt.Sprintf("No matching federated identity record found for presented assertion subject '%s'.", claims.Subject)}
	}
	return nil
}

// audiences is aud, which RFC 7519 lets be one string or several.
type audiences []string

func (a *audiences) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audiences{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// FederatedToken returns an assertion for the named identity, valid for a day,
// such as AZURE_FEDERATED_TOKEN_FILE holds in a cluster.
func (d Directory) FederatedToken(name string) (string, error) {
	i, err := d.AddIdentity(name)
	if err != nil {
		return "", err
	}
	s := d.service
	now := s.authority.Now()
	return s.workload.Sign(map[string]any{
		wire.SimulatedClaim: "true",
		"iss":               s.WorkloadIssuer(), "sub": i.Subject, "aud": []string{federationAudience},
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(24 * time.Hour).Unix(),
	}, map[jose.HeaderKey]any{"typ": "JWT"})
}
