package localcloud

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"cloister/internal/fault"
	"cloister/internal/localcloud/attestation"
	"cloister/internal/localcloud/broker"
	"cloister/internal/localcloud/host"
	"cloister/internal/localcloud/identity"
	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"
)

// Names of the services, in the request log, in endpoints.json and for SetFault.
const (
	Attestation = "attestation"
	Vault       = "vault"
	HSM         = "hsm"
	Authority   = "authority"
	Managed     = "identity" // the managed-identity endpoint
	Broker      = "broker"   // the key broker, which is no service of Azure's
	Manager     = "manager"  // the management plane
	Blob        = "blob"     // where Config.Azurite is set
)

// Files of the state directory. CAFile and EndpointsFile are the two that a
// client reads.
const (
	CAFile        = "ca.pem"
	EndpointsFile = "endpoints.json"
	RequestsFile  = "requests.jsonl"
	TokenFile     = "broker-admin.jwt" // with which owners place resources at the broker; a secret
	adminSocket   = "admin.sock"
	keysDir       = "keys"
)

// stopTime is how long Close waits for requests under way.
const stopTime = 2 * time.Second

// Config says where a cloud lives.
type Config struct {
	// Dir is the state directory. It is made, mode 0700, if it is not there.
	Dir string
	// Roles has vault, HSM, blobs and management plane check role assignments.
	// The identity "owner" has every role; all others have what they are given.
	// Without it every identity may do everything.
	Roles bool
	// Tenants are the names of further tenants, each with a subscription, a vault, an
	// HSM and a storage account of its own, beside the one that is always there.
	// Those of a run before stay.
	Tenants []string
	// Azurite is the address of a running Azurite, http://HOST:PORT, for there to
	// be a blob service.
	Azurite string
	// Runtime is the path of a cloisterd, for container groups of kind simulated to
	// be run; without it they are resources only.
	Runtime string
}

// Cloud is a running set of services. It is safe for concurrent use.
type Cloud struct {
	dir         string
	config      Config
	tenants     []*tenant // the one that is always there first
	endpoints   Endpoints
	log         *wire.Log
	ca          *wire.CA
	listeners   *listeners
	platform    *platform.Platform
	attestation *attestation.Service
	identity    *identity.Service
	broker      *broker.Service
	host        *host.Host // nil where nothing runs
	stop        func() error

	making  sync.Mutex // one vault is made at a time
	mu      sync.Mutex // guards what follows
	servers map[string]*wire.Server
	guests  map[string]*platform.Guest
}

// Start makes or resumes the cloud of a directory and returns when every
// service answers. It stops when ctx ends, or at Close, whichever comes first.
// Errors: fault.Conflict when another process runs the directory or has taken
// one of its ports.
func Start(ctx context.Context, config Config) (*Cloud, error) {
	c, err := start(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("starting the simulated cloud in %s: %w", config.Dir, err)
	}
	return c, nil
}

func start(ctx context.Context, config Config) (_ *Cloud, err error) {
	dir, err := filepath.Abs(config.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, keysDir), 0o700); err != nil {
		return nil, err
	}
	// The admin socket comes first: whoever holds it has the directory.
	admin, err := wire.ListenUnix(filepath.Join(dir, adminSocket))
	if err != nil {
		return nil, err
	}
	c := &Cloud{dir: dir, config: config, listeners: &listeners{}, servers: map[string]*wire.Server{}, guests: map[string]*platform.Guest{}}
	c.stop = sync.OnceValue(c.shutdown)
	defer func() {
		if err != nil {
			c.Close()     //nolint:errcheck // the first error is the one to report
			admin.Close() //nolint:errcheck // may be closed already
		}
	}()
	if c.log, err = wire.OpenLog(filepath.Join(dir, RequestsFile)); err != nil {
		return nil, err
	}
	if err := c.open(); err != nil {
		return nil, err
	}
	if err := c.announce(); err != nil {
		return nil, err
	}
	if err := c.listeners.probe(ctx, c.ca); err != nil {
		return nil, err
	}
	c.listeners.run(admin, c.adminHandler())
	context.AfterFunc(ctx, func() { c.Close() }) //nolint:errcheck // the caller is gone
	return c, nil
}

// open takes the ports, then makes the services.
func (c *Cloud) open() error {
	keys := wire.Keys{Dir: filepath.Join(c.dir, keysDir)}
	var err error
	if c.ca, err = wire.LoadCA(keys); err != nil {
		return err
	}
	if err := c.listen(); err != nil {
		return err
	}
	if err := prepare(keys, c.tenants); err != nil {
		return err
	}
	if err := c.openIdentity(keys); err != nil {
		return err
	}
	if err := c.openAttestation(keys); err != nil {
		return err
	}
	if err := c.openHost(); err != nil {
		return err
	}
	for _, t := range c.tenants {
		if err := t.open(keys); err != nil {
			return err
		}
	}
	if err := c.openManager(); err != nil {
		return err
	}
	return c.openBroker(keys)
}

// addServer makes the server of a service's name. One that is there stays, with its
// faults.
func (c *Cloud) addServer(service string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.servers[service] == nil {
		c.servers[service] = wire.NewServer(service, c.log)
	}
}

// server is the named service's, nil where there is none.
func (c *Cloud) server(service string) *wire.Server {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.servers[service]
}

// prepare finds the RSA keys of a new directory side by side: one after the
// other they take most of the time of a first start.
func prepare(keys wire.Keys, tenants []*tenant) error {
	names := []string{"ark", "ask", "uvm-leaf", "attestation-1", "identity", "workload", Broker}
	for _, t := range tenants {
		names = append(names, t.service(Vault), t.service(HSM))
	}
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { _, errs[i] = keys.RSA(name) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (c *Cloud) openIdentity(keys wire.Keys) (err error) {
	c.identity, err = identity.New(c.server(Managed), c.server(Authority), keys, c.endpoints.Authority)
	if err != nil {
		return err
	}
	c.listeners.serve(Managed, c.identity.ManagedHandler(), nil)
	return c.serveTLS(Authority, c.identity.AuthorityHandler())
}

func (c *Cloud) openAttestation(keys wire.Keys) (err error) {
	if c.platform, err = platform.Load(keys); err != nil {
		return err
	}
	if err := c.platform.WriteTrust(c.dir); err != nil {
		return err
	}
	c.attestation, err = attestation.New(c.server(Attestation), c.platform, keys, c.endpoints.Attestation)
	if err != nil {
		return err
	}
	return c.serveTLS(Attestation, c.attestation.Handler())
}

func (c *Cloud) openBroker(keys wire.Keys) error {
	key, err := keys.RSA(Broker)
	if err != nil {
		return err
	}
	cert, err := keys.SelfSigned(Broker+"-tokens", "broker "+c.endpoints.Broker, key)
	if err != nil {
		return err
	}
	c.broker, err = broker.New(broker.Config{
		Server:   c.server(Broker),
		Platform: c.platform,
		Signer:   wire.Signer{Key: key, Chain: []*x509.Certificate{cert}},
		URL:      c.endpoints.Broker,
		File:     filepath.Join(c.dir, Broker+".json"),
	})
	if err != nil {
		return err
	}
	token, err := c.broker.AdminToken()
	if err != nil {
		return err
	}
	if err := wire.WriteFile(c.endpoints.BrokerToken, []byte(token)); err != nil {
		return err
	}
	return c.serveTLS(Broker, c.broker.Handler())
}

// Admit lets the guests that run under a container policy have resources of the
// broker.
func (c *Cloud) Admit(policy []byte, resources []string) error {
	for _, r := range resources {
		if err := c.broker.Admit(r, sha256.Sum256(policy)); err != nil {
			return err
		}
	}
	return nil
}

// Endpoints are the addresses of the services.
func (c *Cloud) Endpoints() Endpoints { return c.endpoints }

// Certificate is the CA under which the services present themselves.
func (c *Cloud) Certificate() *x509.Certificate { return c.ca.Certificate }

// Close ends the guests and the services, once, and returns when they have
// ended. The world stays in the directory.
func (c *Cloud) Close() error { return c.stop() }

func (c *Cloud) shutdown() error {
	var errs []error
	if c.host != nil { // first: runtimes end in order while the services answer
		errs = append(errs, c.host.Close())
	}
	c.mu.Lock()
	guests := c.guests
	c.guests = nil
	c.mu.Unlock()
	for _, g := range guests {
		errs = append(errs, g.Close())
	}
	errs = append(errs, c.listeners.close())
	if c.log != nil {
		errs = append(errs, c.log.Close())
	}
	return errors.Join(errs...)
}

// LaunchGuest starts a guest whose directory is dir. It lives until RemoveGuest
// or Close. See platform.Platform.Launch for errors.
func (c *Cloud) LaunchGuest(dir string, config platform.GuestConfig) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	g, err := c.platform.Launch(dir, config)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.guests == nil { // closed meanwhile
		return errors.Join(fault.Errorf(fault.Unavailable, "start it again", "the simulated cloud has stopped"), g.Close())
	}
	c.guests[dir] = g
	return nil
}

// RemoveGuest ends the guest of a directory.
func (c *Cloud) RemoveGuest(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	c.mu.Lock()
	g := c.guests[dir]
	delete(c.guests, dir)
	c.mu.Unlock()
	if g == nil {
		return fault.Errorf(fault.NotFound, "", "no simulated guest runs in %s", dir)
	}
	return g.Close()
}

// SetFault makes a service misbehave, or, with the zero Fault, behave again.
func (c *Cloud) SetFault(service string, f wire.Fault) error {
	s := c.server(service)
	if s == nil {
		return fault.Errorf(fault.Usage, "the services are attestation, vault, hsm, authority, identity, broker, manager and blob; a tenant's is vault@TENANT",
			"no simulated service is called %q", service)
	}
	if kind, _, _ := strings.Cut(service, "@"); f.ExpiredKeys && kind != Vault && kind != HSM {
		return fault.Errorf(fault.Usage, "name vault or hsm", "the simulated service %q has no keys that could expire", service)
	}
	if err := s.SetFault(f); err != nil {
		return fault.Errorf(fault.Usage, "", "%w", err)
	}
	return nil
}

// RotateAttestationKey gives the attestation service a new signing key.
func (c *Cloud) RotateAttestationKey() error { return c.attestation.Rotate() }

// AddIdentity returns the named identity of the directory, made if there is none.
func (c *Cloud) AddIdentity(name string) (identity.Identity, error) {
	return c.AddIdentityIn("", name)
}

// AddIdentityIn is AddIdentity in the directory of another tenant, by its name. A
// tenant that is not among Config.Tenants has a directory and nothing else.
func (c *Cloud) AddIdentityIn(tenant, name string) (identity.Identity, error) {
	return c.identity.In(tenant).AddIdentity(name)
}

// FederatedToken returns an assertion for the named identity: what a cluster
// would put into AZURE_FEDERATED_TOKEN_FILE. It is a secret.
func (c *Cloud) FederatedToken(name string) (string, error) {
	return c.FederatedTokenIn("", name)
}

// FederatedTokenIn is FederatedToken for an identity of another tenant.
func (c *Cloud) FederatedTokenIn(tenant, name string) (string, error) {
	return c.identity.In(tenant).FederatedToken(name)
}
