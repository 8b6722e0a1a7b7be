package platform

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strconv"

	"cloister/internal/localcloud/wire"

	"github.com/veraison/go-cose"
)

// Feed names the utility VM's endorsements, as on the real platform.
const Feed = "ContainerPlat-AMD-UVM"

// uvmUsage is the extended key usage that the real issuer's identifier asks of
// the leaf. The root's fingerprint before it in the identifier is this
// platform's own.
const uvmUsage = "1.3.6.1.4.1.311.76.59.1.2"

// endorser signs endorsements of the utility VM.
type endorser struct {
	key        *rsa.PrivateKey
	leaf, root *x509.Certificate
}

func loadEndorser(keys wire.Keys) (*endorser, error) {
	rootKey, err := keys.EC("uvm-root", elliptic.P384())
	if err != nil {
		return nil, err
	}
	e := &endorser{}
	if e.key, err = keys.RSA("uvm-leaf"); err != nil {
		return nil, err
	}
	return e, e.certify(keys, rootKey)
}

func (e *endorser) certify(keys wire.Keys, rootKey *ecdsa.PrivateKey) error {
	var err error
	e.root, err = keys.Certificate("uvm-root", &x509.Certificate{
		Subject:               wire.Subject("utility VM root"),
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}, nil, rootKey.Public(), rootKey)
	if err != nil {
		return err
	}
	e.leaf, err = keys.Certificate("uvm-leaf", &x509.Certificate{
		Subject:            wire.Subject("utility VM endorsements"),
		KeyUsage:           x509.KeyUsageDigitalSignature,
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 311, 76, 59, 1, 2}},
	}, e.root, e.key.Public(), rootKey)
	return err
}

// issuer is the did:x509 of the platform's endorsements.
func (e *endorser) issuer() string {
	sum := sha256.Sum256(e.root.Raw)
	return "did:x509:0:sha256:" + base64.RawURLEncoding.EncodeToString(sum[:]) + "::eku:" + uvmUsage
}

// endorse returns the COSE_Sign1 that endorses a measurement at an SVN.
func (e *endorser) endorse(measurement []byte, svn int) ([]byte, error) {
	payload, err := json.MarshalIndent(map[string]string{
		"x-ms-sevsnpvm-guestsvn":          strconv.Itoa(svn),
		"x-ms-sevsnpvm-launchmeasurement": hex.EncodeToString(measurement),
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	signer, err := cose.NewSigner(cose.AlgorithmPS384, e.key)
	if err != nil {
		return nil, err
	}
	headers := cose.Headers{Protected: cose.ProtectedHeader{
		cose.HeaderLabelAlgorithm:   cose.AlgorithmPS384,
		cose.HeaderLabelContentType: "application/json",
		cose.HeaderLabelX5Chain:     []any{e.leaf.Raw, e.root.Raw},
		"iss":                       e.issuer(),
		"feed":                      Feed,
	}}
	return cose.Sign1(rand.Reader, signer, headers, payload, nil)
}
