package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"cloister/enclave"
	"cloister/enclave/attest"
	"cloister/enclave/azure"
	"cloister/enclave/azurekeys"
	"cloister/enclave/envelope"
	"cloister/enclave/snp"
	"cloister/enclave/vault"
	"cloister/fs/format"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/policy"
	"cloister/policy/release"
	"cloister/policy/spec"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// clockSkew is how far the attestation service's clock may be from ours: what
// Azure's own services allow each other.
const clockSkew = 5 * time.Minute

// plan joins the measured specification, which says where keys are, with the
// accepted contract, which says what they must be.
func (r *room) plan() (enclave.Plan, error) {
	plan := enclave.Plan{Application: r.spec.Application.Name}
	p, err := r.releasePolicy()
	if err != nil {
		return plan, err
	}
	add := func(to *[]enclave.Volume, s spec.Source, kind string) {
		if err != nil {
			return
		}
		var v enclave.Volume
		if v, err = r.volume(s, kind, p); err == nil {
			*to = append(*to, v)
		}
	}
	for _, s := range r.spec.Code {
		add(&plan.Code, s, statement.CodeVolume)
	}
	for _, s := range r.spec.DataSources {
		add(&plan.Data, s, statement.SourceVolume)
	}
	for _, s := range r.spec.DataSinks {
		add(&plan.Data, s.Source(), statement.SinkVolume)
	}
	return plan, err
}

// releasePolicy makes the policy again from what is measured, and refuses a
// contract that is about another.
func (r *room) releasePolicy() (release.Policy, error) {
	secctx, err := r.platform.SecurityContext()
	if err != nil {
		return release.Policy{}, err
	}
	p, err := policy.KeyRelease(r.spec, secctx.HostData())
	if err != nil {
		return p, err
	}
	if got := r.record.Contract().KeyReleasePolicy; got != p.Digest() {
		return p, fault.Errorf(fault.Refused, "propose and approve the key release policy that `cloister policy generate` writes",
			"the contract is about key release policy %s, this container's is %s", got, p.Digest())
	}
	return p, nil
}

// volume is one that contract and specification agree on.
func (r *room) volume(s spec.Source, kind string, p release.Policy) (enclave.Volume, error) {
	agreed, ok := r.record.Contract().Volume(s.Name)
	if !ok || agreed.Kind != kind {
		return enclave.Volume{}, fault.Errorf(fault.Refused, "amend the contract: each volume of the specification needs its reference there",
			"the contract has no %s %q", kind, s.Name)
	}
	ref, err := pinned(agreed)
	if err != nil {
		return enclave.Volume{}, fmt.Errorf("volume %q of the contract: %w", s.Name, err)
	}
	if ref.Volume.String() != s.Volume {
		return enclave.Volume{}, fault.Errorf(fault.Refused, "amend the contract with the reference of the specification's volume",
			"%q is volume %s in the specification and %s in the contract", s.Name, s.Volume, ref.Volume)
	}
	wrapped, kek := keyAddresses(s.Key)
	return enclave.Volume{
		Name:          s.Name,
		Key:           envelope.Expected{VolumeID: ref.Volume, KeyVersion: ref.KeyVersion, CheckValue: ref.Check},
		WrappedDEK:    wrapped,
		KEK:           kek,
		ReleasePolicy: p,
	}, nil
}

func vaultKey(k spec.Key) string { return strings.TrimSuffix(k.Vault, "/") + "/keys/" + k.KEK }

// pinned is what the contract pins of a volume. A sink that has no reference
// yet has epoch 0.
func pinned(v statement.Volume) (format.Reference, error) {
	if v.Reference != "" {
		return format.ParseReference(v.Reference)
	}
	id, err := format.ParseVolumeID(v.ID)
	if err != nil {
		return format.Reference{}, err
	}
	check, err := format.ParseCheckValue(v.Check)
	return format.Reference{Volume: id, KeyVersion: uint32(v.KeyVersion), Check: check}, err
}

// cloud is how the runtime reaches the services, and as whom.
type cloud struct {
	spec       spec.Specification
	azure      azure.Cloud
	simulated  bool
	identities map[string]string // by volume
	transport  *azure.Transport
	retry      azpolicy.RetryOptions // of each service; the zero value is package azure's

	mu     sync.Mutex               // guards vaults
	vaults map[string]*vault.Client // by identity, so that each signs in once
}

// newCloud refuses services that are not in the specification's cloud.
func newCloud(s spec.Specification) (*cloud, error) {
	where, err := azure.CloudOf(s)
	if err != nil {
		return nil, err
	}
	c := &cloud{spec: s, azure: where, simulated: s.Kind == spec.Simulated, identities: map[string]string{}, transport: azure.NewTransport(nil), vaults: map[string]*vault.Client{}}
	for _, v := range volumesOf(s) {
		c.identities[v.Name] = v.Identity
	}
	return c, c.check()
}

func (c *cloud) check() error {
	errs := []error{c.azure.CheckAttestation(c.spec.Attestation.Authority)}
	for _, v := range volumesOf(c.spec) {
		errs = append(errs, c.azure.CheckVault(v.Key.Vault), c.azure.CheckVault(v.Key.Secret))
	}
	return errors.Join(errs...)
}

func (c *cloud) options() azpolicy.ClientOptions {
	return azpolicy.ClientOptions{Transport: c.transport, Retry: c.retry}
}

// credential is that of a volume's identity in the specification; a
// specification with one identity need not name it at each volume.
func (c *cloud) credential(volume string) (azcore.TokenCredential, error) {
	who := azure.Identity{AuthorityHost: c.azure.Authority, PrivateCloud: c.simulated, Transport: c.transport, Retry: c.retry}
	name := c.identities[volume]
	for _, i := range c.spec.Identities {
		if i.Name == name || name == "" && len(c.spec.Identities) == 1 {
			who.ClientID, who.TenantID, who.ResourceID = i.ClientID, i.TenantID, i.ResourceID
		}
	}
	return who.Credential()
}

// vault is a client of vaults in the name of a volume's identity.
func (c *cloud) vault(volume string) (*vault.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := c.identities[volume]
	if client := c.vaults[name]; client != nil {
		return client, nil
	}
	cred, err := c.credential(volume)
	if err != nil {
		return nil, err
	}
	client := vault.New(vault.Options{Credential: cred, Client: c.options(), PrivateCloud: c.simulated})
	c.vaults[name] = client
	return client, nil
}

// vaultKeys is the source of keys in vaults: the attestation service, and vaults
// that release to its token.
func (c *cloud) vaultKeys(p platform) (*azurekeys.Source, error) {
	service, err := attest.New(attest.Options{Authority: c.spec.Attestation.Authority, Client: c.options(), Skew: clockSkew})
	if err != nil {
		return nil, err
	}
	want, err := demands(c.spec, p)
	if err != nil {
		return nil, err
	}
	return azurekeys.New(p.Platform, want, service, c.vault), nil
}

// demands is what this machine must show of itself before it is shown to
// anybody else.
func demands(s spec.Specification, p platform) (snp.Requirements, error) {
	ledgers, err := s.Attestation.TransparencyServices()
	return snp.Requirements{SMT: snp.SMTAllowed, MinTCB: snp.BaseFloors(), MinUVMSVN: uint64(s.Attestation.MinSVN), VM: p.vm, UVMLedgers: ledgers}, err
}
