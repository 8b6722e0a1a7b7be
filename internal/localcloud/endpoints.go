package localcloud

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cloister/internal/fault"
	"cloister/internal/localcloud/identity"
	"cloister/internal/localcloud/wire"
)

// Endpoints are the addresses of a cloud's services, as endpoints.json holds
// them (mode 0600, because of IdentityHeader).
type Endpoints struct {
	// Simulated says what this is, to whoever reads the file.
	Simulated   string `json:"simulated"`
	Attestation string `json:"attestation"`
	// Authority is what AZURE_AUTHORITY_HOST holds.
	Authority string `json:"authority"`
	// Resources are of the tenant that is always there, Tenants of the others.
	Resources
	Tenants map[string]Resources `json:"tenants,omitempty"`
	// IdentityEndpoint and IdentityHeader are what the environment variables of
	// the same names hold in a container group.
	IdentityEndpoint string         `json:"identityEndpoint"`
	IdentityHeader   IdentityHeader `json:"identityHeader"`
	// Broker is the key broker; BrokerToken is the path of the token with which
	// owners place resources there.
	Broker      string `json:"broker"`
	BrokerToken string `json:"brokerToken"`
	// Manager is the management plane.
	Manager string `json:"manager"`
	// CA is the path of the certificate to trust, PEM.
	CA string `json:"ca"`
}

// Resources are what one tenant has of its own.
type Resources struct {
	Tenant       string `json:"tenant"`       // the directory's id
	Subscription string `json:"subscription"` // the id of its one
	Vault        string `json:"vault"`
	HSM          string `json:"hsm"`
	// Blob is the blob service's account; "" where the cloud has none.
	Blob string `json:"blob,omitempty"`
}

// in is what the tenant of a name has; nothing where there is none of that name.
func (e Endpoints) in(tenant string) Resources {
	if tenant == "" {
		return e.Resources
	}
	return e.Tenants[tenant]
}

func (e *Endpoints) set(tenant string, r Resources) {
	if tenant == "" {
		e.Resources = r
		return
	}
	if e.Tenants == nil {
		e.Tenants = map[string]Resources{}
	}
	e.Tenants[tenant] = r
}

// In is the same cloud as seen from the tenant of a name. One that has no
// resources has a directory and an empty subscription.
func (e Endpoints) In(tenant string) Endpoints {
	e.Resources = e.in(tenant)
	e.Tenant, e.Subscription = identity.TenantOf(tenant), identity.SubscriptionOf(tenant)
	return e
}

// ManagerVariable is the environment variable in which our own tools find the
// management plane. The Azure SDKs have none for it.
const ManagerVariable = "CLOISTER_SIMULATED_MANAGER"

// IdentityHeader is the secret that the managed-identity endpoint asks for. It
// shows itself in endpoints.json and by Reveal, and nowhere else.
type IdentityHeader string

// Reveal returns the secret.
func (h IdentityHeader) Reveal() string { return string(h) }

// String shows that there is a secret, not what it is.
func (h IdentityHeader) String() string { return "[redacted]" }

// GoString is String.
func (h IdentityHeader) GoString() string { return h.String() }

// LogValue is String.
func (h IdentityHeader) LogValue() slog.Value { return slog.StringValue(h.String()) }

// Format writes the redacted form, whatever the verb.
func (h IdentityHeader) Format(f fmt.State, _ rune) { fmt.Fprint(f, h.String()) }

// ReadEndpoints returns the addresses in a state directory. A directory without
// them is fault.NotFound.
func ReadEndpoints(dir string) (Endpoints, error) {
	var e Endpoints
	found, err := wire.LoadJSON(filepath.Join(dir, EndpointsFile), &e)
	if err == nil && !found {
		err = fault.Errorf(fault.NotFound, "start one there with cloister local up", "no simulated cloud lives in %s", dir)
	}
	return e, err
}

// listen takes all ports, the ones of the run before where there was one, and
// makes the servers that answer there.
func (c *Cloud) listen() error {
	var before Endpoints
	if _, err := wire.LoadJSON(filepath.Join(c.dir, EndpointsFile), &before); err != nil {
		return err
	}
	names, err := c.tenantNames(before)
	if err != nil {
		return err
	}
	for _, s := range c.ports(names, before) {
		u, err := url.Parse(s.before)
		if err != nil {
			return fault.Errorf(fault.Usage, "remove the file to have new addresses", "%s: %w", filepath.Join(c.dir, EndpointsFile), err)
		}
		c.addServer(s.name)
		if err := c.listeners.take(s.name, u.Host, s.secure); err != nil {
			return err
		}
	}
	c.endpoints = Endpoints{
		Simulated:        wire.Simulated,
		Manager:          c.listeners.url(Manager),
		Attestation:      c.listeners.url(Attestation),
		Authority:        c.listeners.url(Authority),
		IdentityEndpoint: c.listeners.url(Managed) + identity.ManagedPath,
		Broker:           c.listeners.url(Broker),
		BrokerToken:      filepath.Join(c.dir, TokenFile),
		CA:               filepath.Join(c.dir, CAFile),
	}
	for _, name := range names {
		t := &tenant{cloud: c, name: name}
		c.tenants = append(c.tenants, t)
		c.endpoints.set(name, t.addresses(before.in(name).Blob))
	}
	return nil
}

// port is one to be taken, at the address it had before if it had one.
type port struct {
	name, before string
	secure       bool
}

func (c *Cloud) ports(tenants []string, before Endpoints) []port {
	list := []port{
		{Manager, before.Manager, true},
		{Attestation, before.Attestation, true},
		{Authority, before.Authority, true},
		{Managed, before.IdentityEndpoint, false},
		{Broker, before.Broker, true},
	}
	for _, name := range tenants {
		at := before.in(name)
		list = append(list, port{ServiceOf(name, Vault), at.Vault, true}, port{ServiceOf(name, HSM), at.HSM, true})
		if c.config.Azurite != "" {
			list = append(list, port{ServiceOf(name, Blob), at.Blob, true})
		}
	}
	return list
}

// addresses are what a tenant has, where its blob service, if it is not served
// now, was before.
func (t *tenant) addresses(blobs string) Resources {
	if t.cloud.config.Azurite != "" {
		blobs = t.cloud.listeners.url(t.service(Blob)) + "/" + t.account()
	}
	return Resources{
		Tenant: identity.TenantOf(t.name), Subscription: identity.SubscriptionOf(t.name), Blob: blobs,
		Vault: t.cloud.listeners.url(t.service(Vault)),
		HSM:   t.cloud.listeners.url(t.service(HSM)),
	}
}

func (c *Cloud) serveTLS(name string, h http.Handler) error {
	config, err := c.ca.TLS(name, c.listeners.ip(name))
	if err != nil {
		return err
	}
	c.listeners.serve(name, h, config)
	return nil
}

// announce writes what clients read.
func (c *Cloud) announce() error {
	c.endpoints.IdentityHeader = IdentityHeader(c.identity.Header())
	if err := os.WriteFile(c.endpoints.CA, c.ca.PEM(), 0o644); err != nil {
		return err
	}
	return wire.SaveJSON(filepath.Join(c.dir, EndpointsFile), c.endpoints)
}

// forGroups are the variables that the platform puts into containers: where the
// services are, not how they are managed.
func (e Endpoints) forGroups() []string {
	return slices.DeleteFunc(e.Environment(""), func(line string) bool {
		return strings.HasPrefix(line, ManagerVariable+"=") || strings.HasPrefix(line, "AZURE_SUBSCRIPTION_ID=")
	})
}

// Environment returns the lines NAME=VALUE with which a process finds the
// services through the variables of the Azure SDKs, acting as the identity with
// the client id given, or as the clean room's own where it is "".
func (e Endpoints) Environment(clientID string) []string {
	out := []string{
		"IDENTITY_ENDPOINT=" + e.IdentityEndpoint,
		"IDENTITY_HEADER=" + e.IdentityHeader.Reveal(),
		"AZURE_AUTHORITY_HOST=" + e.Authority,
		"AZURE_TENANT_ID=" + e.Tenant,
		"AZURE_SUBSCRIPTION_ID=" + e.Subscription,
		ManagerVariable + "=" + e.Manager,
		"SSL_CERT_FILE=" + e.CA,
	}
	if clientID != "" {
		out = append(out, "AZURE_CLIENT_ID="+clientID)
	}
	return out
}
