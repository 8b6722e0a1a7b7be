package localcloud

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"

	"cloister/internal/fault"
	"cloister/internal/localcloud/vault"
	"cloister/internal/localcloud/wire"
)

// madeVaults are the vaults of a tenant that the management plane made. A vault's
// address has to be known before it is there, as on Azure, where it is made of the
// name. So a name simulated-127-A-B-C is of the vault at 127.A.B.C, with the port of
// the tenant's own vault; any other is at a port of its own.
type madeVaults struct {
	tenant *tenant
	keys   wire.Keys
}

var addressName = regexp.MustCompile(`^simulated-127-(\d{1,3})-(\d{1,3})-(\d{1,3})$`)

// addressOf returns where a vault that is made is to listen, HOST:PORT.
func (v madeVaults) addressOf(name string) (string, error) {
	m := addressName.FindStringSubmatch(name)
	if m == nil {
		return "127.0.0.1:0", nil
	}
	host := "127." + strings.Join(m[1:], ".")
	if net.ParseIP(host) == nil || host == "127.0.0.1" {
		return "", fault.Errorf(fault.Usage, "", "%s is no address of another vault's", host)
	}
	u, err := url.Parse(v.tenant.cloud.listeners.url(v.tenant.service(Vault)))
	return net.JoinHostPort(host, u.Port()), err
}

func (v madeVaults) service(name string) string { return v.tenant.service(Vault + "-" + name) }

// Open is arm.Vaults.
func (v madeVaults) Open(name, at string, standard bool) (string, error) {
	name = strings.ToLower(name)
	c, service := v.tenant.cloud, v.service(name)
	c.making.Lock()
	defer c.making.Unlock()
	for _, other := range c.tenants {
		if other != v.tenant && other.manager != nil && other.manager.HasVault(name) {
			return "", fault.Errorf(fault.Conflict, "", "the vault name %s is taken", name)
		}
	}
	if c.listeners.find(service) != nil {
		return c.listeners.url(service), nil
	}
	address, err := v.addressOf(name)
	if u, perr := url.Parse(at); at != "" && perr == nil {
		address, err = u.Host, nil
	}
	if err != nil {
		return "", err
	}
	if err := c.listeners.take(service, address, true); err != nil {
		return "", err
	}
	c.addServer(service)
	kind := vault.KeyVault
	if standard {
		kind = vault.KeyVaultStandard
	}
	id := groupOf(v.tenant.name) + "/providers/Microsoft.KeyVault/vaults/" + name
	if err := v.tenant.serveVault(v.keys, Vault+"-"+name, kind, v.tenant.roles, id); err != nil {
		return "", fmt.Errorf("opening the vault %s: %w", name, err)
	}
	return c.listeners.url(service), nil
}

// Close is arm.Vaults.
func (v madeVaults) Close(name string) error {
	return v.tenant.cloud.listeners.end(v.service(strings.ToLower(name)))
}

// Purge is arm.Vaults.
func (v madeVaults) Purge(name string) error {
	err := os.Remove(v.tenant.file(Vault + "-" + strings.ToLower(name)))
	if os.IsNotExist(err) {
		return nil // nothing was ever in it
	}
	return err
}
