package proof

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"time"

	"github.com/fxamacker/cbor/v2"

	"cloister/enclave/snp"
	"cloister/internal/fault"
)

// extensionOID is id-pe-cmw, the extension of RFC 9999 (the RATS Conceptual
// Message Wrapper) in which a certificate carries evidence.
var extensionOID = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 35}

// mediaType says how the wrapper's value is read; indicator is RFC 9999's bit 2,
// evidence.
const (
	mediaType = "application/vnd.cloister.identity+cbor"
	indicator = 4
)

// maxExtension bounds the extension in bytes. A report has 1184, its chain some
// 5,000, an endorsement with receipts some 10,000.
const maxExtension = 96 << 10

// Evidence is what an enclave shows of itself: an identity report, what judges
// it, and what it is about beside the certificate's key.
type Evidence struct {
	RunID          [16]byte
	ContractDigest [32]byte
	AuditKey       []byte // SubjectPublicKeyInfo, DER
	Report         []byte
	Certificates   [][]byte // DER, the processor's first
	Endorsement    []byte   // COSE_Sign1
}

// record is RFC 9999's, an array.
type record struct {
	_         struct{} `cbor:",toarray"`
	Type      string
	Value     []byte
	Indicator uint64
}

type value struct {
	RunID          []byte   `cbor:"1,keyasint"`
	ContractDigest []byte   `cbor:"2,keyasint"`
	AuditKey       []byte   `cbor:"3,keyasint"`
	Report         []byte   `cbor:"4,keyasint"`
	Certificates   [][]byte `cbor:"5,keyasint"`
	Endorsement    []byte   `cbor:"6,keyasint"`
}

// NewEvidence is what the report about id shows; id's TLS key is the
// certificate's.
func NewEvidence(id snp.Identity, e *snp.Evidence) Evidence {
	out := Evidence{RunID: id.RunID, ContractDigest: id.ContractDigest, AuditKey: id.AuditKey, Report: e.Report, Endorsement: e.UVM}
	for _, c := range e.HostCerts.Chain {
		out.Certificates = append(out.Certificates, c.Raw)
	}
	return out
}

// Identity is what the report must be about, of a certificate with this key.
func (e Evidence) Identity(tlsKey []byte) snp.Identity {
	return snp.Identity{RunID: e.RunID, ContractDigest: e.ContractDigest, AuditKey: e.AuditKey, TLSKey: tlsKey}
}

// Platform is the evidence as package snp judges it.
func (e Evidence) Platform() (*snp.Evidence, error) {
	out := &snp.Evidence{Report: e.Report}
	out.UVM = e.Endorsement
	for _, der := range e.Certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, bad("a certificate of the processor's: %v", err)
		}
		out.HostCerts.Chain = append(out.HostCerts.Chain, c)
	}
	return out, nil
}

// Certificate is a self-signed certificate of key that carries the evidence. Who
// made it and until when it holds says nothing: the report binds the key, and
// the exchange shows that it is used now.
func Certificate(key crypto.Signer, e Evidence) (tls.Certificate, error) {
	extension, err := e.extension()
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber:    new(big.Int).SetBytes(e.RunID[:]),
		Subject:         pkix.Name{CommonName: "cloister run " + hex.EncodeToString(e.RunID[:])},
		NotBefore:       time.Unix(0, 0),
		NotAfter:        time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // none: RFC 5280, section 4.1.2.5
		KeyUsage:        x509.KeyUsageDigitalSignature,
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		ExtraExtensions: []pkix.Extension{{Id: extensionOID, Value: extension}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

var encoding = func() cbor.EncMode {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err) // the library's own options
	}
	return m
}()

var decoding = func() cbor.DecMode {
	m, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		TagsMd: cbor.TagsForbidden, MaxNestedLevels: 4, MaxArrayElements: 16, MaxMapPairs: 16,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField}.DecMode()
	if err != nil {
		panic(err) // constants
	}
	return m
}()

// extension is RFC 9999's CMW in its cbor choice: an OCTET STRING of a record.
func (e Evidence) extension() ([]byte, error) {
	inner, err := encoding.Marshal(value{e.RunID[:], e.ContractDigest[:], e.AuditKey, e.Report, e.Certificates, e.Endorsement})
	if err != nil {
		return nil, err
	}
	outer, err := encoding.Marshal(record{Type: mediaType, Value: inner, Indicator: indicator})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(outer)
}

// ErrNone is of a certificate that carries no evidence.
var ErrNone = errors.New("the certificate carries no evidence")

// OfCertificate reads the evidence that a certificate carries. It looks at form
// only. A certificate with none is ErrNone; one that has it twice is refused.
func OfCertificate(c *x509.Certificate) (Evidence, error) {
	var found []byte
	for _, x := range c.Extensions {
		if !x.Id.Equal(extensionOID) {
			continue
		}
		if found != nil {
			return Evidence{}, bad("it is there twice")
		}
		found = x.Value
	}
	if found == nil {
		return Evidence{}, ErrNone
	}
	return parseExtension(found)
}

// parseExtension takes the one encoding of an evidence, and no other.
func parseExtension(der []byte) (Evidence, error) {
	if len(der) > maxExtension {
		return Evidence{}, bad("it has %d bytes, more than the %d allowed", len(der), maxExtension)
	}
	var outer []byte
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 {
		return Evidence{}, bad("it is not one OCTET STRING")
	}
	var r record
	if err := decoding.Unmarshal(outer, &r); err != nil {
		return Evidence{}, bad("the wrapper: %v", err)
	}
	if r.Type != mediaType || r.Indicator != indicator {
		return Evidence{}, bad("it is %.80q with the indicator %d", r.Type, r.Indicator)
	}
	var v value
	if err := decoding.Unmarshal(r.Value, &v); err != nil {
		return Evidence{}, bad("%v", err)
	}
	if len(v.RunID) != 16 || len(v.ContractDigest) != 32 {
		return Evidence{}, bad("the run's id has %d bytes, the contract's digest %d", len(v.RunID), len(v.ContractDigest))
	}
	e := Evidence{[16]byte(v.RunID), [32]byte(v.ContractDigest), v.AuditKey, v.Report, v.Certificates, v.Endorsement}
	if again, err := e.extension(); err != nil || !bytes.Equal(again, der) {
		return Evidence{}, bad("it is not in its canonical form")
	}
	return e, nil
}

func bad(format string, args ...any) error {
	return fault.Errorf(fault.Refused, "", "the evidence in the certificate cannot be read: "+format, args...)
}
