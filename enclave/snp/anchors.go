package snp

import (
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"sync"

	"github.com/google/go-sev-guest/verify/trust"
)

// Microsoft's signer of utility VMs (the subject of its certificates is pinned
// by the root's digest and the key usage), and the feed it signs them under.
const (
	MicrosoftUVMIssuer = "did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.2"
	UVMFeed            = "ContainerPlat-AMD-UVM"
)

// Anchors say who is believed about a platform. The zero value believes nobody.
type Anchors struct {
	Name          string                 // shown wherever a platform is reported: "AMD", or what it is instead
	Roots         []*x509.Certificate    // self-signed roots (ARK) of processors
	Intermediates []*x509.Certificate    // signing keys (ASK, ASVK), for evidence that lacks them; not trusted by themselves
	CRLs          []*x509.RevocationList // of the roots; a list that no root signed, or that is out of date, refuses
	UVMIssuer     string                 // did:x509 of the utility VM's signer
	UVMFeed       string
	// UVMLedgers are the keys, ECDSA P-384, of the transparency services one of
	// which must hold an endorsement in hash-envelope form. Without one that form
	// is refused; the older form is in no ledger.
	UVMLedgers []*ecdsa.PublicKey
}

// AMD returns the real anchors: AMD's embedded roots of Milan, Genoa and Turin
// and Microsoft's signer of utility VMs.
func AMD() (Anchors, error) { return amd() }

var amd = sync.OnceValues(func() (Anchors, error) {
	a := Anchors{Name: "AMD", UVMIssuer: MicrosoftUVMIssuer, UVMFeed: UVMFeed}
	for _, bundle := range [][]byte{
		trust.AskArkMilanVcekBytes, trust.AskArkGenoaVcekBytes, trust.AskArkTurinVcekBytes,
		trust.AskArkMilanVlekBytes, trust.AskArkGenoaVlekBytes, trust.AskArkTurinVlekBytes,
	} {
		chain, err := parsePEM(bundle)
		if err != nil || len(chain) != 2 {
			return Anchors{}, fmt.Errorf("reading AMD's embedded roots: %d certificates, %w", len(chain), err)
		}
		a.Intermediates = append(a.Intermediates, chain[0])
		a.Roots = append(a.Roots, chain[1])
	}
	return a, nil
})

// Above returns the signing key and the root over a leaf, as far as they are
// known.
func (a Anchors) Above(leaf *x509.Certificate) []*x509.Certificate {
	for i, ica := range a.Intermediates {
		if leaf.CheckSignatureFrom(ica) == nil {
			return []*x509.Certificate{ica, a.Roots[i]}
		}
	}
	return nil
}
