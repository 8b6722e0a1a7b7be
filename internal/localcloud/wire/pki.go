package wire

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certificates live for ten years: a development directory is kept around, and
// the only thing that trusts them is told to by name.
const certificateLife = 10 * 365 * 24 * time.Hour

// CA is the one authority under which all emulated services present themselves.
type CA struct {
	Certificate *x509.Certificate
	key         crypto.Signer
	keys        Keys
}

// LoadCA returns the CA of the directory, made on first use.
func LoadCA(keys Keys) (*CA, error) {
	key, err := keys.EC("ca", elliptic.P256())
	if err != nil {
		return nil, err
	}
	cert, err := keys.Certificate("ca", &x509.Certificate{
		Subject:               Subject("TLS root"),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}, nil, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &CA{Certificate: cert, key: key, keys: keys}, nil
}

// Subject is the name of a certificate of the simulated platform.
func Subject(commonName string) pkix.Name {
	return pkix.Name{Organization: []string{Simulated}, CommonName: "Cloister simulated " + commonName}
}

// PEM returns the CA's certificate.
func (c *CA) PEM() []byte { return EncodePEM(c.Certificate) }

// EncodePEM returns the certificates one after another.
func EncodePEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// Leaf returns the named service's certificate for public, valid for the
// usual loopback addresses, for at, and for localhost.
func (c *CA) Leaf(name string, public crypto.PublicKey, at net.IP) (*x509.Certificate, error) {
	return c.keys.Certificate(name, &x509.Certificate{
		Subject:     Subject(name),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, at},
	}, c.Certificate, public, c.key)
}

// TLS returns the named service's side of TLS.
func (c *CA) TLS(name string, at net.IP) (*tls.Config, error) {
	key, err := c.keys.EC(name+"-tls", elliptic.P256())
	if err != nil {
		return nil, err
	}
	leaf, err := c.Leaf(name+"-tls", key.Public(), at)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{
		Certificate: [][]byte{leaf.Raw, c.Certificate.Raw}, PrivateKey: key, Leaf: leaf,
	}}}, nil
}

// SelfSigned returns a certificate that the key signs for itself, as the
// attestation and identity services publish theirs.
func (k Keys) SelfSigned(name, commonName string, key crypto.Signer) (*x509.Certificate, error) {
	return k.Certificate(name, &x509.Certificate{Subject: Subject(commonName)}, nil, key.Public(), key)
}

// Certificate returns the stored certificate of that name, or has signer issue
// template. A nil parent makes it self-signed.
func (k Keys) Certificate(name string, template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	path := filepath.Join(k.Dir, name+".crt")
	if data, err := os.ReadFile(path); err == nil {
		if block, _ := pem.Decode(data); block != nil {
			return x509.ParseCertificate(block.Bytes)
		}
		return nil, errors.New(path + " holds no PEM block")
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	cert, err := Issue(template, parent, public, signer)
	if err != nil {
		return nil, err
	}
	return cert, WriteFile(path, EncodePEM(cert))
}

// Issue signs template with a serial number and dates filled in where they are
// missing. A nil parent makes it self-signed.
func Issue(template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	if parent == nil {
		parent = template
	}
	if template.SerialNumber == nil {
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
		if err != nil {
			return nil, err
		}
		template.SerialNumber = serial.Add(serial, big.NewInt(1))
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
		template.NotAfter = template.NotBefore.Add(certificateLife)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
