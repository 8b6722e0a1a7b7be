package platform

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"cloister/internal/localcloud/wire"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
)

// The product played: the one the public evidence from the real service shows.
const (
	productLine = "Milan"
	productName = "Milan-B1"
	// cpuid is CPUID(1).EAX of a Milan-B1: family 0x19, model 1, stepping 1.
	cpuid = 0x00a00f11
)

// chain is the simulated processor's certificate chain and keys.
type chain struct {
	ark, ask       *x509.Certificate
	arkKey, askKey *rsa.PrivateKey
	vcekKey        *ecdsa.PrivateKey
	hwid           [abi.ChipIDSize]byte
}

// loadChain returns the processor of the directory, made on first use.
func loadChain(keys wire.Keys) (*chain, error) {
	c := &chain{}
	var err error
	if c.arkKey, err = keys.RSA("ark"); err != nil {
		return nil, err
	}
	if c.askKey, err = keys.RSA("ask"); err != nil {
		return nil, err
	}
	if c.vcekKey, err = keys.EC("vcek", elliptic.P384()); err != nil {
		return nil, err
	}
	// The chip's id follows from its key, so that it stays with it.
	der, err := x509.MarshalPKIXPublicKey(c.vcekKey.Public())
	if err != nil {
		return nil, err
	}
	c.hwid = sha512.Sum512(der)
	return c, c.certify(keys)
}

// certify makes the root and the intermediate, once: their bytes are what
// others were told to trust.
func (c *chain) certify(keys wire.Keys) error {
	path := filepath.Join(keys.Dir, "amd-chain.der")
	if der, err := os.ReadFile(path); err == nil {
		certs, err := x509.ParseCertificates(der)
		if err != nil || len(certs) != 2 {
			return fmt.Errorf("%s does not hold two certificates: %w", path, err)
		}
		c.ask, c.ark = certs[0], certs[1]
		return nil
	}
	ark := authority("ARK-"+productLine, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, 1)
	var err error
	if c.ark, err = wire.Issue(ark, nil, c.arkKey.Public(), c.arkKey); err != nil {
		return err
	}
	ask := authority("SEV-"+productLine, x509.KeyUsageCertSign, 2)
	if c.ask, err = wire.Issue(ask, c.ark, c.askKey.Public(), c.arkKey); err != nil {
		return err
	}
	return wire.WriteFile(path, append(append([]byte(nil), c.ask.Raw...), c.ark.Raw...))
}

// amdName is a name of the form go-sev-guest demands of AMD's certificates.
// The serial number is the one part that it leaves free: it says "simulated".
func amdName(commonName string) pkix.Name {
	return pkix.Name{
		Country:            []string{"US"},
		Locality:           []string{"Santa Clara"},
		Province:           []string{"CA"},
		Organization:       []string{"Advanced Micro Devices"},
		OrganizationalUnit: []string{"Engineering"},
		CommonName:         commonName,
		SerialNumber:       wire.Simulated,
	}
}

func authority(commonName string, usage x509.KeyUsage, serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          big.NewInt(serial),
		Subject:               amdName(commonName),
		SignatureAlgorithm:    x509.SHA384WithRSAPSS,
		KeyUsage:              usage,
		IsCA:                  true,
		BasicConstraintsValid: true,
		CRLDistributionPoints: []string{kds.CrlLinkByRole(productLine, "ARK")},
	}
}

// vcek returns the certificate of the chip's key at a TCB. AMD derives another
// key for each TCB; one key under several certificates behaves alike in every
// check, because reports name their TCB too.
func (c *chain) vcek(tcb kds.TCBVersion) (*x509.Certificate, error) {
	extensions, err := kdsExtensions(kds.DecomposeTCBVersion(tcb), c.hwid[:])
	if err != nil {
		return nil, err
	}
	return wire.Issue(&x509.Certificate{
		// AMD's have serial 0, which wire.Issue keeps because it is set.
		SerialNumber:       new(big.Int),
		Subject:            amdName("SEV-VCEK"),
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
		ExtraExtensions:    extensions,
	}, c.ask, c.vcekKey.Public(), c.askKey)
}

// kdsExtensions are the extensions of AMD's specification 57230, table 8.
func kdsExtensions(tcb kds.TCBParts, hwid []byte) ([]pkix.Extension, error) {
	name, err := asn1.MarshalWithParams(productName, "ia5")
	if err != nil {
		return nil, err
	}
	// AMD writes the chip's id without an ASN.1 tag.
	out := []pkix.Extension{{Id: kds.OidProductName1, Value: name}, {Id: kds.OidHwid, Value: hwid}}
	for _, n := range []struct {
		id    asn1.ObjectIdentifier
		value uint8
	}{
		{kds.OidStructVersion, 1},
		{kds.OidBlSpl, tcb.BlSpl}, {kds.OidTeeSpl, tcb.TeeSpl}, {kds.OidSnpSpl, tcb.SnpSpl},
		{kds.OidSpl4, tcb.Spl4}, {kds.OidSpl5, tcb.Spl5}, {kds.OidSpl6, tcb.Spl6}, {kds.OidSpl7, tcb.Spl7},
		{kds.OidUcodeSpl, tcb.UcodeSpl},
	} {
		value, err := asn1.Marshal(int(n.value))
		if err != nil {
			return nil, err
		}
		out = append(out, pkix.Extension{Id: n.id, Value: value})
	}
	return out, nil
}

// crl returns the platform's revocation list, DER: empty, or with the
// intermediate on it.
func (c *chain) crl(revoked bool) ([]byte, error) {
	list := &x509.RevocationList{
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
		Number:             big.NewInt(1),
		ThisUpdate:         time.Now().Add(-time.Hour),
		NextUpdate:         time.Now().AddDate(1, 0, 0),
	}
	if revoked {
		list.RevokedCertificateEntries = []x509.RevocationListEntry{
			{SerialNumber: c.ask.SerialNumber, RevocationTime: list.ThisUpdate},
		}
	}
	return x509.CreateRevocationList(rand.Reader, list, c.ark, c.arkKey)
}
