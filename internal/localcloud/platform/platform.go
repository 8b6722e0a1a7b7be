package platform

import (
	"crypto/x509"
	"fmt"

	"cloister/internal/localcloud/wire"

	"github.com/google/go-sev-guest/kds"
)

// Platform is one simulated processor and its host. It is safe for concurrent
// use: nothing in it changes after Load.
type Platform struct {
	chain    *chain
	endorser *endorser
}

// Load returns the platform whose keys are in the directory, made on first use.
func Load(keys wire.Keys) (*Platform, error) {
	c, err := loadChain(keys)
	if err != nil {
		return nil, fmt.Errorf("loading the simulated processor: %w", err)
	}
	e, err := loadEndorser(keys)
	if err != nil {
		return nil, fmt.Errorf("loading the simulated platform's issuer: %w", err)
	}
	return &Platform{chain: c, endorser: e}, nil
}

// Root returns the simulated ARK, PEM: whoever trusts it says so by name.
func (p *Platform) Root() []byte { return wire.EncodePEM(p.chain.ark) }

// Chain returns the simulated ASK and ARK.
func (p *Platform) Chain() (ask, ark *x509.Certificate) { return p.chain.ask, p.chain.ark }

// ProductLine is the processor family played, as AMD's key service names it.
func (p *Platform) ProductLine() string { return productLine }

// Issuer is the did:x509 of the platform's endorsements of its utility VM.
func (p *Platform) Issuer() string { return p.endorser.issuer() }

// Endorsement returns the platform's endorsement of its good utility VM: what a
// verifier that is shown none has as its reference.
func (p *Platform) Endorsement() ([]byte, error) {
	measurement := Measurement()
	return p.endorser.endorse(measurement[:], goodUVMSVN)
}

// EndorsementRoot is the root certificate behind Issuer.
func (p *Platform) EndorsementRoot() *x509.Certificate { return p.endorser.root }

// EndorsementUsage is the extended key usage that Issuer asks of the leaf.
func (p *Platform) EndorsementUsage() string { return uvmUsage }

func hexTCB(tcb kds.TCBVersion) string { return fmt.Sprintf("%016x", uint64(tcb)) }
