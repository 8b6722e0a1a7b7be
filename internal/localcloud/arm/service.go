package arm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"cloister/internal/localcloud/access"
	"cloister/internal/localcloud/identity"
	"cloister/internal/localcloud/wire"
)

// audiences are what a token for the management plane may be issued for.
var audiences = []string{"https://management.azure.com", "https://management.core.windows.net"}

// Directory authenticates callers and keeps managed identities.
type Directory interface {
	Authenticate(token, audience string, now time.Time) (string, error)
	AddResource(resourceID string) (identity.Identity, error)
	RemoveResource(resourceID string) error
	Trust(resourceID, name string, t *identity.Trust) error
}

// Containers are the containers of the storage account.
type Containers interface {
	Container(r *http.Request, method, name string) (status int, err error)
}

// Config says what a Service stands on. All but Enforce, Containers, Vaults and
// Runner is required.
type Config struct {
	Server    *wire.Server
	Directory Directory
	Roles     *access.Book
	Enforce   bool
	Challenge string // the tenant's address, for the 401
	Tenant    string
	// Subscription is the one whose resources these are.
	Subscription string
	File         string
	// Fixed are the resources that are always there, by id, in the form in which
	// a GET shows them.
	Fixed map[string]map[string]any
	// Containers is where the account's containers really are; nil keeps them as
	// resources only.
	Containers Containers
	// Vaults serves vaults that are made; nil refuses to make any.
	Vaults Vaults
	// Runner runs container groups; nil keeps them as resources only.
	Runner Runner
}

// Service is the management plane. It is safe for concurrent use.
type Service struct {
	Config

	mu        sync.Mutex // guards resources, and writers of File
	resources map[string]resource
}

// resource is what is kept, and given, of one: id, name, type and the rest.
type resource map[string]any

// New returns the management plane with the resources of its file.
func New(c Config) (*Service, error) {
	s := &Service{Config: c, resources: map[string]resource{}}
	if _, err := wire.LoadJSON(c.File, &s.resources); err != nil {
		return nil, err
	}
	for id, r := range c.Fixed {
		s.resources[key(id)] = r
	}
	if c.Vaults == nil {
		return s, nil
	}
	return s, s.openVaults()
}

// callerKey is the object id of who asks, in a request's context.
type callerKey struct{}

// Handler serves the wire protocol.
func (s *Service) Handler() http.Handler {
	return s.Server.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := s.authenticate(r)
		if wrong := (identity.WrongTenant{}); errors.As(err, &wrong) {
			s.refuseTenant(w, wrong)
			return
		}
		if err != nil {
			w.Header().Set("WWW-Authenticate", `Bearer authorization_uri="`+s.Challenge+`", error="invalid_token"`)
			wire.WriteError(w, http.StatusUnauthorized, "AuthenticationFailed", err.Error(), "")
			return
		}
		wire.SetCaller(r, caller)
		r = r.WithContext(context.WithValue(r.Context(), callerKey{}, caller))
		status, body, err := s.serve(r, caller)
		var e *apiError
		switch {
		case errors.As(err, &e):
			wire.WriteError(w, e.status, e.code, e.message, "")
		case err != nil:
			wire.WriteError(w, http.StatusInternalServerError, "InternalServerError", err.Error(), "")
		case body == nil:
			w.WriteHeader(status)
		default:
			wire.WriteJSON(w, status, body)
		}
	}))
}

// refuseTenant says which tenant the subscription is in, in the service's words.
func (s *Service) refuseTenant(w http.ResponseWriter, wrong identity.WrongTenant) {
	w.Header().Set("WWW-Authenticate", `Bearer authorization_uri="`+s.Challenge+`", error="invalid_token", error_description="The access token is from the wrong issuer. `+
		`It must match the tenant associated with this subscription. Please use correct authority to get the token."`)
	wire.WriteError(w, http.StatusUnauthorized, "InvalidAuthenticationTokenTenant", fmt.Sprintf("The access token is from the wrong issuer '%s'. "+
		"It must match the tenant '%s' associated with this subscription. Please use the authority (URL) '%s' to get the token. "+
		"Note, if the subscription is transferred to another tenant there is no impact to the services, but information about new tenant could take time to propagate (up to an hour). "+
		"If you just transferred your subscription and see this error message, please try back later.", wrong.Found, wrong.Expected, s.Challenge), "")
}

func (s *Service) authenticate(r *http.Request) (caller string, err error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return "", errors.New("Authentication failed. The 'Authorization' header is missing.")
	}
	for _, audience := range audiences {
		caller, err = s.Directory.Authenticate(token, audience, s.Server.Now())
		if err == nil || errors.As(err, new(identity.WrongTenant)) {
			break
		}
	}
	return caller, err
}

func (s *Service) serve(r *http.Request, caller string) (int, any, error) {
	if r.URL.Query().Get("api-version") == "" {
		return 0, nil, refuse(http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
	}
	id := parseID(r.URL.Path)
	if of, named := SubscriptionOf(r.URL.Path); named && !strings.EqualFold(of, s.Subscription) {
		return 0, nil, refuse(http.StatusNotFound, "SubscriptionNotFound", "The subscription '%s' could not be found.", of)
	}
	if done, status, body, err := s.groupAction(r, caller, id); done {
		return status, body, err
	}
	if done, status, body, err := s.purgeVault(r, caller, id); done {
		return status, body, err
	}
	if r.Method == http.MethodGet && strings.EqualFold(id.path, "/subscriptions/"+s.Subscription) {
		return http.StatusOK, map[string]string{"id": id.path, "subscriptionId": s.Subscription, "tenantId": s.Tenant, "state": "Enabled"}, nil
	}
	t, ok := types[id.kind]
	if !ok {
		return 0, nil, refuse(http.StatusNotFound, "InvalidResourceType", "The resource type '%s' could not be found: the simulated cloud does not have it.", id.kind)
	}
	verb := map[string]string{http.MethodGet: "read", http.MethodPut: "write", http.MethodPatch: "write", http.MethodDelete: "delete"}[r.Method]
	if verb == "" || id.name == "" && verb != "read" {
		return 0, nil, refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "%s is not for %s.", r.Method, id.path)
	}
	if err := s.authorize(caller, t.name+"/"+verb, id); err != nil {
		return 0, nil, err
	}
	switch {
	case id.kind == assignmentKind:
		return s.assignment(r, caller, id)
	case verb == "write":
		return s.put(r, id, t)
	case verb == "delete":
		return s.remove(r, id, t)
	case id.name == "":
		return s.list(id)
	}
	return s.get(r, id)
}

// authorize asks at the scope of an extension resource, and else at the resource.
func (s *Service) authorize(caller, action string, id resourceID) error {
	at := id.path
	if id.kind == assignmentKind || id.name == "" {
		at = id.scope
	}
	if !s.Enforce || s.Roles.Allows(caller, access.Management, action, at) {
		return nil
	}
	return refuse(http.StatusForbidden, "AuthorizationFailed", "The client '%s' with object id '%s' does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. "+
		"If access was recently granted, please refresh your credentials.", caller, caller, action, at)
}
