package identity

import (
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"cloister/internal/localcloud/wire"
)

// ManagedPath is the path of IDENTITY_ENDPOINT.
const ManagedPath = "/msi/token"

// managedVersion is the endpoint's version that azidentity asks for.
const managedVersion = "2019-08-01"

// ManagedHandler serves IDENTITY_ENDPOINT: GET with X-IDENTITY-HEADER, resource
// and, for one identity among several, client_id, principal_id or mi_res_id.
func (s *Service) ManagedHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+ManagedPath, s.managedToken)
	return s.managed.Wrap(mux)
}

func (s *Service) managedToken(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("X-IDENTITY-HEADER")), []byte(s.header)) != 1 {
		managedError(w, http.StatusUnauthorized, "X-IDENTITY-HEADER does not match IDENTITY_HEADER")
		return
	}
	if v := q.Get("api-version"); v != managedVersion {
		managedError(w, http.StatusBadRequest, "api-version must be "+managedVersion+", not "+strconv.Quote(v))
		return
	}
	resource := q.Get("resource")
	if resource == "" {
		managedError(w, http.StatusBadRequest, "the resource parameter is missing")
		return
	}
	i, ok := s.selected(q.Get)
	if !ok {
		managedError(w, http.StatusBadRequest, "no such identity is assigned to this resource")
		return
	}
	wire.SetCaller(r, i.ObjectID)
	token, expires, err := s.token(s.managed, i, resource, managedLife)
	if err != nil {
		managedError(w, http.StatusInternalServerError, err.Error())
		return
	}
	wire.WriteJSON(w, http.StatusOK, map[string]string{
		"access_token": token,
		"client_id":    i.ClientID,
		"expires_on":   strconv.FormatInt(expires.Unix(), 10),
		"resource":     resource,
		"token_type":   "Bearer",
	})
}

// selected returns the identity that the query names, or the default one.
func (s *Service) selected(get func(string) string) (Identity, bool) {
	for parameter, field := range map[string]func(Identity) string{
		"client_id":    func(i Identity) string { return i.ClientID },
		"object_id":    func(i Identity) string { return i.ObjectID },
		"principal_id": func(i Identity) string { return i.ObjectID },
		"mi_res_id":    func(i Identity) string { return i.ResourceID },
	} {
		if want := get(parameter); want != "" {
			return s.find(func(i Identity) bool { return strings.EqualFold(field(i), want) })
		}
	}
	return s.find(func(i Identity) bool { return i.Name == CleanRoom && i.tenant() == Tenant })
}

func managedError(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{ //nolint:errcheck // the client is gone
		"statusCode": status, "message": message,
	})
}
