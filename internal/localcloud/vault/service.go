package vault

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"cloister/internal/localcloud/access"
	"cloister/internal/localcloud/wire"
)

// Kind is which of the two services is played.
type Kind int

const (
	// KeyVault is Key Vault Premium: software and HSM keys, and secrets.
	KeyVault Kind = iota
	// ManagedHSM has HSM keys only, symmetric ones among them, and no secrets.
	ManagedHSM
	// KeyVaultStandard is Key Vault without an HSM: software keys, and secrets.
	KeyVaultStandard
)

// audience is what a token for the service is issued for.
func (k Kind) audience() string {
	if k == ManagedHSM {
		return "https://managedhsm.azure.net"
	}
	return "https://vault.azure.net"
}

// versions are the interface versions that the clients in use ask for, those of
// azkeys and azsecrets among them.
var versions = []string{"7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"}

// Directory authenticates a caller.
type Directory interface {
	// Authenticate returns the object id of the caller of token, when it is
	// valid now and for audience.
	Authenticate(token, audience string, now time.Time) (string, error)
}

// Authority is an attestation service whose tokens the vault believes, as far
// as a key's release policy names it.
type Authority interface {
	URL() string
	PublicKeys() map[string]*rsa.PublicKey
}

// Config says what a Service stands on. All fields are required.
type Config struct {
	Kind   Kind
	Server *wire.Server
	// URL is the vault's own address; key ids begin with it.
	URL string
	// Challenge is the address of the directory's tenant, for the 401.
	Challenge string
	Directory Directory
	Authority Authority
	// Signer signs released keys.
	Signer wire.Signer
	// File is where the state is kept.
	File string
	// Roles are asked whether a caller may do what it asks, if Enforce is set: the
	// directory's for a Key Vault, whose id there is Resource, and an HSM's own.
	Roles    *access.Book
	Enforce  bool
	Resource string
}

// Service is one vault. It is safe for concurrent use.
type Service struct {
	Config
	store *store
}

// New returns the vault with the state of its file.
func New(c Config) (*Service, error) {
	st, err := openStore(c.File)
	if err != nil {
		return nil, err
	}
	return &Service{Config: c, store: st}, nil
}

// call is one request on its way to a route's function.
type call struct {
	*http.Request
	name, version string
}

type route struct {
	method  string
	pattern string // segments; {name} and {version} bind
	serve   func(*Service, call) (any, error)
	secrets bool // of Key Vault only
}

// routes is the interface, in the order in which it is tried.
var routes = []route{
	{"GET", "keys", (*Service).listKeys, false},
	{"POST", "keys/{name}/create", (*Service).createKey, false},
	{"PUT", "keys/{name}", (*Service).importKey, false},
	{"GET", "keys/{name}/versions", (*Service).listKeyVersions, false},
	{"GET", "keys/{name}/rotationpolicy", (*Service).getRotationPolicy, false},
	{"PUT", "keys/{name}/rotationpolicy", (*Service).setRotationPolicy, false},
	{"POST", "keys/{name}/rotate", (*Service).rotateKey, false},
	{"POST", "keys/{name}/release", (*Service).release, false},
	{"POST", "keys/{name}/{version}/release", (*Service).release, false},
	{"POST", "keys/{name}/{version}/encrypt", (*Service).encrypt, false},
	{"POST", "keys/{name}/{version}/decrypt", (*Service).decrypt, false},
	{"POST", "keys/{name}/{version}/wrapkey", (*Service).encrypt, false},
	{"POST", "keys/{name}/{version}/unwrapkey", (*Service).decrypt, false},
	{"POST", "keys/{name}/encrypt", (*Service).encrypt, false},
	{"POST", "keys/{name}/decrypt", (*Service).decrypt, false},
	{"POST", "keys/{name}/wrapkey", (*Service).encrypt, false},
	{"POST", "keys/{name}/unwrapkey", (*Service).decrypt, false},
	{"GET", "keys/{name}", (*Service).getKey, false},
	{"GET", "keys/{name}/{version}", (*Service).getKey, false},
	{"PATCH", "keys/{name}", (*Service).updateKey, false},
	{"PATCH", "keys/{name}/{version}", (*Service).updateKey, false},
	{"DELETE", "keys/{name}", (*Service).deleteKey, false},
	{"GET", "deletedkeys", (*Service).listDeletedKeys, false},
	{"GET", "deletedkeys/{name}", (*Service).getDeletedKey, false},
	{"DELETE", "deletedkeys/{name}", (*Service).purgeKey, false},
	{"POST", "deletedkeys/{name}/recover", (*Service).recoverKey, false},

	{"GET", "secrets", (*Service).listSecrets, true},
	{"PUT", "secrets/{name}", (*Service).setSecret, true},
	{"GET", "secrets/{name}/versions", (*Service).listSecretVersions, true},
	{"GET", "secrets/{name}", (*Service).getSecret, true},
	{"GET", "secrets/{name}/{version}", (*Service).getSecret, true},
	{"PATCH", "secrets/{name}", (*Service).updateSecret, true},
	{"PATCH", "secrets/{name}/{version}", (*Service).updateSecret, true},
	{"DELETE", "secrets/{name}", (*Service).deleteSecret, true},
	{"GET", "deletedsecrets", (*Service).listDeletedSecrets, true},
	{"GET", "deletedsecrets/{name}", (*Service).getDeletedSecret, true},
	{"DELETE", "deletedsecrets/{name}", (*Service).purgeSecret, true},
	{"POST", "deletedsecrets/{name}/recover", (*Service).recoverSecret, true},
}

var (
	nameForm    = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
	versionForm = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// Handler serves the wire protocol. It does not use http.ServeMux, which would
// redirect the doubled slash that the clients send for an empty version.
func (s *Service) Handler() http.Handler {
	return s.Server.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Kind.headers(w.Header())
		caller, err := s.authenticate(r)
		if err != nil {
			s.challenge(w, err)
			return
		}
		wire.SetCaller(r, caller)
		body, err := s.serve(r, caller)
		switch {
		case err != nil:
			s.fail(w, r, err)
		case body == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			wire.WriteJSON(w, http.StatusOK, body)
		}
	}))
}

var errNoToken = errors.New("AKV10000: Request is missing a Bearer or PoP token.")

func (s *Service) authenticate(r *http.Request) (string, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return "", errNoToken
	}
	return s.Directory.Authenticate(token, s.Kind.audience(), s.Server.Now())
}

func (s *Service) challenge(w http.ResponseWriter, err error) {
	w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer authorization=%q, resource=%q", s.Challenge, s.Kind.audience()))
	if s.Kind == ManagedHSM && errors.Is(err, errNoToken) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8") // and no body, as the real one
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	wire.WriteError(w, http.StatusUnauthorized, "Unauthorized", err.Error(), "")
}

func (s *Service) serve(r *http.Request, caller string) (any, error) {
	if v := r.URL.Query().Get("api-version"); !slices.Contains(versions, v) {
		return nil, badParameter("api-version %q is not one of %s.", v, strings.Join(versions, ", "))
	}
	if s.Kind == ManagedHSM && strings.Contains(r.URL.Path, assignmentsPath) {
		return s.assignments(r, caller)
	}
	segments := strings.FieldsFunc(r.URL.Path, func(c rune) bool { return c == '/' })
	for _, rt := range routes {
		if rt.method != r.Method || rt.secrets && s.Kind == ManagedHSM {
			continue
		}
		if c, ok := match(rt.pattern, segments); ok {
			if c.name != "" && !nameForm.MatchString(c.name) {
				return nil, badParameter("The name %q is not 1 to 127 letters, digits and dashes.", c.name)
			}
			c.Request = r
			if err := s.authorize(r, caller, rt.action(s.Kind), s.scope(rt, c.name)); err != nil {
				return nil, err
			}
			return rt.serve(s, c)
		}
	}
	return nil, &apiError{status: http.StatusNotImplemented, code: "NotImplemented",
		message: "The simulated vault does not have this operation."}
}

// match binds segments to pattern. A version has the services' form, so that
// "versions" or "release" is never taken for one.
func match(pattern string, segments []string) (c call, ok bool) {
	parts := strings.Split(pattern, "/")
	if len(parts) != len(segments) {
		return c, false
	}
	for i, part := range parts {
		switch part {
		case "{name}":
			c.name = segments[i]
		case "{version}":
			if !versionForm.MatchString(segments[i]) {
				return c, false
			}
			c.version = segments[i]
		default:
			if part != segments[i] {
				return c, false
			}
		}
	}
	return c, true
}

func (s *Service) fail(w http.ResponseWriter, r *http.Request, err error) {
	var e *apiError
	if !errors.As(err, &e) {
		e = &apiError{status: http.StatusInternalServerError, code: "InternalServerError", message: err.Error()}
	}
	if e.note != "" {
		wire.Note(r, "%s", e.note)
	}
	wire.WriteError(w, e.status, e.code, e.message, e.inner)
}

// decode reads a request's body into v.
func decode(c call, v any) error {
	if err := wire.ReadJSON(c.Request, v); err != nil {
		return badParameter("%v", err)
	}
	return nil
}
