package identity

import (
	"encoding/json"
	"net/http"
	"strings"

	"cloister/internal/localcloud/wire"
)

// graphAudience is what a token for the directory's own interface is issued for.
const graphAudience = "https://graph.microsoft.com"

// graph serves the part of Microsoft Graph with which an application is made that
// a managed identity stands for, and admitted to another tenant. Whoever is of a
// tenant may change it: directory roles are not emulated.
func (s *Service) graph(mux *http.ServeMux) {
	for pattern, serve := range map[string]func(*http.Request, string) (int, any, error){
		"GET /v1.0/applications":                                    s.listApplications,
		"POST /v1.0/applications":                                   s.makeApplication,
		"GET /v1.0/applications/{id}/federatedIdentityCredentials":  s.listTrusts,
		"POST /v1.0/applications/{id}/federatedIdentityCredentials": s.makeTrust,
		"GET /v1.0/servicePrincipals":                               s.listPrincipals,
		"POST /v1.0/servicePrincipals":                              s.makePrincipal,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			who, tenant, err := s.who(token, graphAudience, s.authority.Now())
			if err != nil {
				wire.WriteError(w, http.StatusUnauthorized, "InvalidAuthenticationToken", err.Error(), "")
				return
			}
			wire.SetCaller(r, who)
			status, body, err := serve(r, tenant)
			if err != nil {
				wire.WriteError(w, status, "Request_BadRequest", err.Error(), "")
				return
			}
			wire.WriteJSON(w, status, body)
		})
	}
}

// filtered returns what $filter=FIELD eq 'VALUE' asks for, "" where it is not that.
func filtered(r *http.Request, field string) string {
	value, ok := strings.CutPrefix(r.URL.Query().Get("$filter"), field+" eq '")
	if !ok {
		return ""
	}
	return strings.TrimSuffix(value, "'")
}

func (s *Service) listApplications(r *http.Request, tenant string) (int, any, error) {
	name, value := filtered(r, "displayName"), []Application{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.applications {
		if a.Home == tenant && a.Name == name {
			value = append(value, a)
		}
	}
	return http.StatusOK, map[string]any{"value": value}, nil
}

func (s *Service) makeApplication(r *http.Request, tenant string) (int, any, error) {
	var sent struct{ DisplayName, SignInAudience string }
	if err := wire.ReadJSON(r, &sent); err != nil || sent.DisplayName == "" || sent.SignInAudience != "AzureADMultipleOrgs" {
		return http.StatusBadRequest, nil, refusal{text: "an application has a displayName, and here the signInAudience AzureADMultipleOrgs"}
	}
	id := newID()
	made := Application{ID: id, ClientID: uuid("application " + id), Name: sent.DisplayName, Home: tenant}
	err := s.changeApplications(func(all []Application) ([]Application, error) { return append(all, made), nil })
	return http.StatusCreated, made, err
}

func (s *Service) listTrusts(r *http.Request, tenant string) (int, any, error) {
	a, ok := s.findApplication(func(a Application) bool { return a.ID == r.PathValue("id") && a.Home == tenant })
	if !ok {
		return http.StatusNotFound, nil, refusal{text: "no such application in this tenant"}
	}
	value := []any{}
	for _, t := range a.Trusts {
		value = append(value, map[string]any{"name": t.Name, "issuer": t.Issuer, "subject": t.Subject, "audiences": []string{t.Audience}})
	}
	return http.StatusOK, map[string]any{"value": value}, nil
}

func (s *Service) makeTrust(r *http.Request, tenant string) (int, any, error) {
	var sent struct {
		Name, Issuer, Subject string
		Audiences             []string
	}
	if err := wire.ReadJSON(r, &sent); err != nil || sent.Name == "" || sent.Issuer == "" || sent.Subject == "" || len(sent.Audiences) != 1 {
		return http.StatusBadRequest, nil, refusal{text: "a federated identity credential has a name, an issuer, a subject and exactly one audience"}
	}
	err := s.changeApplications(func(all []Application) ([]Application, error) {
		for i := range all {
			if all[i].ID == r.PathValue("id") && all[i].Home == tenant {
				all[i].Trusts = append(all[i].Trusts, Trust{sent.Name, sent.Issuer, sent.Subject, sent.Audiences[0]})
				return all, nil
			}
		}
		return nil, refusal{text: "no such application in this tenant"}
	})
	return http.StatusCreated, sent, err
}

type principal struct {
	ID    string `json:"id"`
	AppID string `json:"appId"`
}

func (s *Service) listPrincipals(r *http.Request, tenant string) (int, any, error) {
	app, value := filtered(r, "appId"), []principal{}
	if i, ok := s.find(func(i Identity) bool { return strings.EqualFold(i.ClientID, app) && i.tenant() == tenant }); ok {
		value = append(value, principal{i.ObjectID, i.ClientID})
	}
	return http.StatusOK, map[string]any{"value": value}, nil
}

func (s *Service) makePrincipal(r *http.Request, tenant string) (int, any, error) {
	var sent struct{ AppID string }
	err := json.NewDecoder(r.Body).Decode(&sent)
	a, ok := s.findApplication(func(a Application) bool { return strings.EqualFold(a.ClientID, sent.AppID) })
	if err != nil || !ok {
		return http.StatusBadRequest, nil, refusal{text: "the appId is of no multi-tenant application"}
	}
	if _, there := s.find(func(i Identity) bool { return i.ClientID == a.ClientID && i.tenant() == tenant }); there {
		return http.StatusConflict, nil, refusal{text: "the service principal is already in use"}
	}
	made := Identity{Name: a.Name + "@" + tenant, ClientID: a.ClientID, ObjectID: uuid("principal " + a.ClientID + " " + tenant), Tenant: tenant}
	err = s.change(func(all []Identity) []Identity { return append(all, made) })
	return http.StatusCreated, principal{made.ObjectID, made.ClientID}, err
}
