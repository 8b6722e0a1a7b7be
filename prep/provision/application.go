package provision

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"cloister/internal/fault"
)

// Directory is where a tenant's applications are kept: Microsoft Graph.
type Directory struct {
	// Endpoint is its address with the version, https://HOST/v1.0; Scope what a
	// token for it is asked for.
	Endpoint, Scope string
	// Authority is the login service, https://HOST, whose tokens an application
	// is to believe.
	Authority string
}

// Application is a multi-tenant application that a managed identity stands for.
type Application struct {
	ClientID string `json:"clientId"` // the same in every tenant
	Changed  bool   `json:"changed"`
}

// exchangeAudience is what a token must be for that is exchanged for another.
const exchangeAudience = "api://AzureADTokenExchange"

const applicationRole = "Application Administrator, or Application Developer, in the tenant's directory"

func (c *Client) graph(ctx context.Context, method, path string, in, out any) error {
	return newREST(c.opts.Credential, c.opts.Directory.Scope, c.opts.Client).do(once(ctx), method, c.opts.Directory.Endpoint+path, in, out)
}

// ApplyApplication sees to it that there is a multi-tenant application of that
// name, in the tenant that is signed in to, which believes the managed identity's
// tokens. That must be the identity's own tenant: a directory takes no other's
// tokens in this way.
func (c *Client) ApplyApplication(ctx context.Context, name string, i Identity) (Application, error) {
	doing := "making the application " + name
	if strings.ContainsAny(name, `'"\`) || name == "" {
		return Application{}, fault.Errorf(fault.Usage, "use letters, digits, spaces and dashes", "%.80q cannot be an application's name", name)
	}
	type application struct {
		ID    string `json:"id"`
		AppID string `json:"appId"`
	}
	var list struct{ Value []application }
	if err := c.graph(ctx, http.MethodGet, "/applications?$filter="+url.QueryEscape("displayName eq '"+name+"'"), nil, &list); err != nil {
		return Application{}, explain(err, doing, applicationRole)
	}
	if len(list.Value) > 1 {
		return Application{}, fault.Errorf(fault.Conflict, "use a name that no application has", "%s: there are several of that name", doing)
	}
	done := Application{Changed: len(list.Value) == 0}
	var app application
	if done.Changed {
		if err := c.graph(ctx, http.MethodPost, "/applications", map[string]string{"displayName": name, "signInAudience": "AzureADMultipleOrgs"}, &app); err != nil {
			return done, explain(err, doing, applicationRole)
		}
	} else {
		app = list.Value[0]
	}
	made, err := c.federate(ctx, app.ID, i)
	if err != nil {
		return done, explain(err, "having the application "+name+" believe the identity "+i.PrincipalID, applicationRole)
	}
	done.ClientID, done.Changed = app.AppID, done.Changed || made
	return done, nil
}

// federate adds the credential unless it is there.
func (c *Client) federate(ctx context.Context, id string, i Identity) (made bool, err error) {
	type credential struct {
		Name      string   `json:"name"`
		Issuer    string   `json:"issuer"`
		Subject   string   `json:"subject"`
		Audiences []string `json:"audiences"`
	}
	want := credential{"clean-room-" + i.PrincipalID, strings.TrimSuffix(c.opts.Directory.Authority, "/") + "/" + i.TenantID + "/v2.0", i.PrincipalID, []string{exchangeAudience}}
	at := "/applications/" + id + "/federatedIdentityCredentials"
	var list struct{ Value []credential }
	if err := c.graph(ctx, http.MethodGet, at, nil, &list); err != nil {
		return false, err
	}
	for _, there := range list.Value {
		if there.Issuer == want.Issuer && there.Subject == want.Subject {
			return false, nil
		}
	}
	return true, c.graph(ctx, http.MethodPost, at, want, nil)
}

// Admit sees to it that another tenant's application has a service principal in
// the tenant that is signed in to, and returns its object id: whom roles are given
// to there. By itself it may do nothing.
func (c *Client) Admit(ctx context.Context, clientID string) (principal string, made bool, err error) {
	if err := CheckPrincipal(clientID); err != nil {
		return "", false, fault.Errorf(fault.Usage, "give the application's client id, a UUID", "%.80q is not a client id", clientID)
	}
	doing := "admitting the application " + clientID
	if principal, err = c.findPrincipal(ctx, clientID); err != nil {
		return "", false, explain(err, doing, applicationRole)
	}
	if principal != "" {
		return principal, false, nil
	}
	var sp struct{ ID string }
	if err := c.graph(ctx, http.MethodPost, "/servicePrincipals", map[string]string{"appId": clientID}, &sp); err != nil {
		return "", false, explain(err, doing, "Cloud Application Administrator in the tenant's directory")
	}
	return sp.ID, true, nil
}

// Principal returns the object id of the service principal that an application of
// another tenant has in the one that is signed in to. One that was not admitted is
// fault.NotFound.
func (c *Client) Principal(ctx context.Context, clientID string) (string, error) {
	doing := "looking for the service principal of the application " + clientID
	if err := CheckPrincipal(clientID); err != nil {
		return "", fmt.Errorf("%s: %w", doing, err)
	}
	id, err := c.findPrincipal(ctx, clientID)
	if err != nil {
		return "", explain(err, doing, "Directory Readers in the tenant's directory")
	}
	if id == "" {
		return "", fault.Errorf(fault.NotFound, "admit it: cloister identity admit "+clientID, "%s: this tenant has none", doing)
	}
	return id, nil
}

// findPrincipal is "" where the tenant has none.
func (c *Client) findPrincipal(ctx context.Context, clientID string) (string, error) {
	var list struct{ Value []struct{ ID string } }
	err := c.graph(ctx, http.MethodGet, "/servicePrincipals?$filter="+url.QueryEscape("appId eq '"+clientID+"'"), nil, &list)
	if err != nil || len(list.Value) == 0 {
		return "", err
	}
	return list.Value[0].ID, nil
}
