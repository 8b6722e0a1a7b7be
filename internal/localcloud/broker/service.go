package broker

import (
	"crypto/rsa"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"cloister/internal/fault"
	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"
)

const (
	// protocolVersion is matched exactly, as the implementation does.
	protocolVersion = "0.4.0"
	cookieName      = "kbs-session-id"
	errorPrefix     = "https://github.com/confidential-containers/kbs/errors/"
	// sessionLife is the implementation's default, and that of its tokens.
	sessionLife = 5 * time.Minute
	// administrator is the subject of the token that may place resources.
	administrator = "administrator"
)

var resourceName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*){2}$`)

// Service is the broker. It is safe for concurrent use.
type Service struct {
	server   *wire.Server
	platform *platform.Platform
	signer   wire.Signer
	url      string
	sessions *sessions
	store    *store
}

// Config says what a broker is made of.
type Config struct {
	Server   *wire.Server
	Platform *platform.Platform
	Signer   wire.Signer // of tokens
	URL      string
	File     string // where resources and admissions are kept
}

// New returns the broker with the resources of before.
func New(c Config) (*Service, error) {
	store, err := openStore(c.File)
	if err != nil {
		return nil, err
	}
	return &Service{server: c.Server, platform: c.Platform, signer: c.Signer, url: c.URL, sessions: newSessions(), store: store}, nil
}

// AdminToken returns a token with which an owner may place resources. It is a
// secret.
func (s *Service) AdminToken() (string, error) {
	now := s.server.Now()
	return s.signer.Sign(map[string]any{
		wire.SimulatedClaim: "true", "iss": s.url, "sub": administrator, "iat": now.Unix(), "exp": now.AddDate(1, 0, 0).Unix(),
	}, nil)
}

// Admit lets the guests whose host data is given have a resource.
func (s *Service) Admit(resource string, hostData [32]byte) error {
	if !resourceName.MatchString(resource) {
		return fault.Errorf(fault.Usage, "write it as REPOSITORY/TYPE/TAG", "%q is not a resource", resource)
	}
	return s.store.admit(resource, hostData)
}

// Handler serves the wire protocol.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /kbs/v0/auth", s.auth)
	mux.HandleFunc("POST /kbs/v0/attest", s.attest)
	mux.HandleFunc("GET /kbs/v0/resource/{name...}", s.get)
	mux.HandleFunc("POST /kbs/v0/resource/{name...}", s.put)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, r, http.StatusNotFound, "InvalidRequestPath", fmt.Errorf("request path %s is invalid", r.URL.Path))
	})
	return s.server.Wrap(mux)
}

// refuse answers in the protocol's form (RFC 7807).
func refuse(w http.ResponseWriter, r *http.Request, status int, name string, err error) {
	wire.Note(r, "%s: %v", name, err)
	wire.WriteJSON(w, status, map[string]string{"type": errorPrefix + name, "detail": err.Error()})
}

func (s *Service) get(w http.ResponseWriter, r *http.Request) {
	token, err := s.token(r)
	if err != nil {
		refuse(w, r, http.StatusUnauthorized, "TokenNotFound", err)
		return
	}
	guest, err := s.readToken(token)
	if err != nil {
		refuse(w, r, http.StatusUnauthorized, "TokenVerifierError", err)
		return
	}
	name := r.PathValue("name")
	data, found, admitted := s.store.get(name, guest.hostData)
	switch {
	case !admitted:
		refuse(w, r, http.StatusUnauthorized, "PolicyDeny", fmt.Errorf("access denied by policy: host data %x is not admitted to %s", guest.hostData, name))
	case !found:
		refuse(w, r, http.StatusNotFound, "PluginInternalError", fmt.Errorf("resource %s not found", name))
	default:
		sealed, err := seal(data, guest.key)
		if err != nil {
			refuse(w, r, http.StatusUnauthorized, "JweError", err)
			return
		}
		wire.WriteJSON(w, http.StatusOK, sealed)
	}
}

// token is the one in the header, or the session's.
func (s *Service) token(r *http.Request) (string, error) {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return token, nil
	}
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return "", fmt.Errorf("there is neither a token nor a session's cookie")
	}
	return s.sessions.token(cookie.Value, s.server.Now())
}

// maxResource bounds a resource in bytes; the implementation's own limit is not
// published.
const maxResource = 64 << 10

func (s *Service) put(w http.ResponseWriter, r *http.Request) {
	if err := s.checkAdmin(r); err != nil {
		refuse(w, r, http.StatusUnauthorized, "AdminAuthAccess", err)
		return
	}
	name := r.PathValue("name")
	if !resourceName.MatchString(name) {
		refuse(w, r, http.StatusNotFound, "InvalidRequestPath", fmt.Errorf("%q is not REPOSITORY/TYPE/TAG", name))
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxResource))
	if err == nil {
		err = s.store.put(name, data)
	}
	if err != nil {
		refuse(w, r, http.StatusUnauthorized, "PluginInternalError", err)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (s *Service) checkAdmin(r *http.Request) error {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return fmt.Errorf("there is no administrator's token")
	}
	claims, err := s.verify(token)
	if err == nil && claims.Subject != administrator {
		err = fmt.Errorf("it is not the administrator's token")
	}
	return err
}

func (s *Service) keys() map[string]*rsa.PublicKey {
	return map[string]*rsa.PublicKey{s.signer.KeyID(): &s.signer.Key.PublicKey}
}
