package azure

import (
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"

	"cloister/internal/fault"
	"cloister/policy/spec"
)

// Cloud is one of Azure's: who signs in there, and under which names its
// services are. Vaults and HSMs are at NAME.DOMAIN, and a token for one is for
// https://DOMAIN. The zero value is a private cloud, of which nothing is known.
type Cloud struct {
	Name      string
	Authority string // login service, with https://
	Vault     string // DNS domain of Key Vault
	HSM       string // of Managed HSM
	// Attestation is the domain of the attestation service; "" where Azure has
	// published none, and any address may be named.
	Attestation string
}

// The authorities are azcore's; the domains are those of the Azure CLI's list
// of clouds (azure-cli-core, cloud.py).
var clouds = [...]Cloud{
	{string(spec.PublicCloud), cloud.AzurePublic.ActiveDirectoryAuthorityHost, "vault.azure.net", "managedhsm.azure.net", "attest.azure.net"},
	{string(spec.USGovernmentCloud), cloud.AzureGovernment.ActiveDirectoryAuthorityHost, "vault.usgovcloudapi.net", "managedhsm.usgovcloudapi.net", "attest.azure.us"},
	{string(spec.ChinaCloud), cloud.AzureChina.ActiveDirectoryAuthorityHost, "vault.azure.cn", "managedhsm.azure.cn", ""},
}

// CloudOf is the cloud that a specification names: the public one where it names
// none, and of a simulated clean room a private one.
func CloudOf(s spec.Specification) (Cloud, error) {
	if s.Kind == spec.Simulated {
		return Cloud{}, nil
	}
	name := s.Cloud
	if name == "" {
		name = spec.PublicCloud
	}
	for _, c := range clouds {
		if c.Name == string(name) {
			return c, nil
		}
	}
	return Cloud{}, fault.Errorf(fault.Usage, "set one with cloister spec set cloud", "the specification's cloud %.80q is not known", name)
}

// Configuration is the cloud as the SDK's clients know it; the zero one is what
// their environment says.
func (c Cloud) Configuration() cloud.Configuration {
	return cloud.Configuration{ActiveDirectoryAuthorityHost: c.Authority}
}

// VaultScope is what a token for Key Vault is asked for.
func (c Cloud) VaultScope() string {
	if c.Vault == "" {
		return "https://vault.azure.net/.default" // what `cloister local` demands, as the public cloud does
	}
	return "https://" + c.Vault + "/.default"
}

// CheckVault refuses a vault, HSM or secret that is not in this cloud: a token
// for it could only be had from another, or would be sent to a stranger.
func (c Cloud) CheckVault(address string) error {
	return c.check(address, "vault", c.Vault, c.HSM)
}

// CheckAttestation refuses an attestation service that is not in this cloud.
func (c Cloud) CheckAttestation(address string) error {
	return c.check(address, "attestation service", c.Attestation)
}

func (c Cloud) check(address, what string, domains ...string) error {
	u, err := url.Parse(address)
	if err != nil {
		return fault.Errorf(fault.Usage, "correct the address in the specification", "reading the address of the %s: %w", what, err)
	}
	for _, domain := range domains {
		if domain == "" || strings.HasSuffix(strings.ToLower(u.Hostname()), "."+domain) {
			return nil
		}
	}
	return fault.Errorf(fault.Refused, "correct the address, or name its cloud with cloister spec set cloud",
		"the %s %s is not in the cloud %s, where they are below %s", what, address, c.Name, strings.Join(domains, " or "))
}
