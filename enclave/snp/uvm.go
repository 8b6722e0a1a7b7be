package snp

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/veraison/go-cose"
)

// maxUVM bounds an endorsement in bytes; real ones have 11 KiB.
const maxUVM = 64 << 10

// uvmEndorsement is a verified statement of the utility VM's signer.
type uvmEndorsement struct {
	issuer      string
	feed        string
	svn         uint64
	measurement [48]byte
}

// uvmPayload is the signed statement; both values are strings.
type uvmPayload struct {
	SVN         string `json:"x-ms-sevsnpvm-guestsvn"`
	Measurement string `json:"x-ms-sevsnpvm-launchmeasurement"`
}

// verifyUVM verifies an endorsement and returns what it says. The caller still
// compares issuer, feed, SVN and measurement with what it expects; that the
// signer is the issuer named in the statement is verified here, and of a hash
// envelope also that one of the ledgers holds it.
func verifyUVM(raw []byte, ledgers []*ecdsa.PublicKey) (*uvmEndorsement, error) {
	if len(raw) > maxUVM {
		return nil, fmt.Errorf("it has %d bytes, more than the %d allowed", len(raw), maxUVM)
	}
	var msg cose.Sign1Message
	if err := msg.UnmarshalCBOR(raw); err != nil {
		return nil, fmt.Errorf("it is not COSE_Sign1: %w", err)
	}
	if alg, err := msg.Headers.Protected.Algorithm(); err != nil || alg != cose.AlgorithmPS384 {
		return nil, fmt.Errorf("its algorithm is not PS384")
	}
	chain, err := x5chain(msg.Headers.Protected[cose.HeaderLabelX5Chain])
	if err != nil {
		return nil, err
	}
	uvm, err := readStatement(&msg)
	if err != nil {
		return nil, err
	}
	if err := checkIssuer(uvm.issuer, chain); err != nil {
		return nil, err
	}
	if err := checkCOSESignature(&msg, chain[0].PublicKey); err != nil {
		return nil, err
	}
	if isHashEnvelope(&msg) {
		return uvm, checkReceipts(&msg, ledgers)
	}
	return uvm, nil
}

// readStatement reads either form; nothing of it counts before the signature
// is verified.
func readStatement(msg *cose.Sign1Message) (*uvmEndorsement, error) {
	if isHashEnvelope(msg) {
		return readHashEnvelope(msg)
	}
	issuer, _ := msg.Headers.Protected["iss"].(string)
	feed, _ := msg.Headers.Protected["feed"].(string)
	return readUVMPayload(issuer, feed, msg.Payload)
}

func checkCOSESignature(msg *cose.Sign1Message, key crypto.PublicKey) error {
	verifier, err := cose.NewVerifier(cose.AlgorithmPS384, key)
	if err != nil {
		return fmt.Errorf("its signer's key: %w", err)
	}
	if err := msg.Verify(nil, verifier); err != nil {
		return fmt.Errorf("its signature: %w", err)
	}
	return nil
}

func readUVMPayload(issuer, feed string, payload []byte) (*uvmEndorsement, error) {
	var p uvmPayload
	if err := json.Unmarshal(payload, &p); err != nil {
		return nil, fmt.Errorf("its payload is not JSON: %w", err)
	}
	svn, err := strconv.ParseUint(p.SVN, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("its SVN %q is not a number", p.SVN)
	}
	measurement, err := hex.DecodeString(p.Measurement)
	if err != nil || len(measurement) != 48 {
		return nil, errors.New("its launch measurement is not 96 hex digits")
	}
	return &uvmEndorsement{issuer: issuer, feed: feed, svn: svn, measurement: [48]byte(measurement)}, nil
}

// x5chain reads header 33 (RFC 9360): one certificate or an array, leaf first.
func x5chain(header any) ([]*x509.Certificate, error) {
	var ders [][]byte
	switch v := header.(type) {
	case []byte:
		ders = [][]byte{v}
	case []any:
		for _, item := range v {
			der, ok := item.([]byte)
			if !ok {
				return nil, errors.New("its certificate chain holds something else")
			}
			ders = append(ders, der)
		}
	}
	if len(ders) < 2 || len(ders) > maxChain {
		return nil, fmt.Errorf("its protected header has a chain of %d certificates, expected 2 to %d", len(ders), maxChain)
	}
	chain := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of its chain: %w", i+1, err)
		}
		chain[i] = cert
	}
	return chain, nil
}

// checkIssuer verifies that the chain's leaf is what the did:x509 names: below
// the certificate whose SHA-256 it gives, with the extended key usage it gives.
// Leaf certificates live for months and endorsements for years, so the chain
// is judged at the leaf's NotBefore; what ends an endorsement is the SVN floor.
func checkIssuer(did string, chain []*x509.Certificate) error {
	fingerprint, usage, err := parseDID(did)
	if err != nil {
		return err
	}
	leaf, root := chain[0], chain[len(chain)-1]
	opts := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
		CurrentTime: leaf.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	opts.Roots.AddCert(root)
	for _, cert := range chain[1 : len(chain)-1] {
		opts.Intermediates.AddCert(cert)
	}
	paths, err := leaf.Verify(opts)
	if err != nil {
		return fmt.Errorf("its certificate chain: %w", err)
	}
	if !pathHolds(paths, fingerprint) {
		return errors.New("its certificate chain does not lead to the issuer it names")
	}
	if !hasUsage(leaf, usage) {
		return fmt.Errorf("its certificate lacks the extended key usage %s", usage)
	}
	return nil
}

// pathHolds looks for the pinned certificate above the leaf.
func pathHolds(paths [][]*x509.Certificate, fingerprint [32]byte) bool {
	for _, path := range paths {
		for _, cert := range path[1:] {
			if sha256.Sum256(cert.Raw) == fingerprint {
				return true
			}
		}
	}
	return false
}

func hasUsage(cert *x509.Certificate, usage asn1.ObjectIdentifier) bool {
	for _, oid := range cert.UnknownExtKeyUsage {
		if oid.Equal(usage) {
			return true
		}
	}
	return false
}

// parseDID reads the one form of did:x509 that endorsements use:
// did:x509:0:sha256:<base64url digest>::eku:<OID>.
func parseDID(did string) (fingerprint [32]byte, usage asn1.ObjectIdentifier, err error) {
	bad := fmt.Errorf("its issuer %q is not did:x509:0:sha256:…::eku:…", did)
	rest, ok := strings.CutPrefix(did, "did:x509:0:sha256:")
	if !ok {
		return fingerprint, nil, bad
	}
	digest, oid, ok := strings.Cut(rest, "::eku:")
	if !ok {
		return fingerprint, nil, bad
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(digest)
	if err != nil || len(raw) != sha256.Size {
		return fingerprint, nil, bad
	}
	for _, arc := range strings.Split(oid, ".") {
		n, err := strconv.ParseUint(arc, 10, 31)
		if err != nil {
			return fingerprint, nil, bad
		}
		usage = append(usage, int(n))
	}
	return [32]byte(bytes.Clone(raw)), usage, nil
}
