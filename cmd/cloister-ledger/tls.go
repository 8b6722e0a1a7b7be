package main

import (
	"crypto/ecdsa"
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

	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// The certificate that is made where none is given. Clients name it after ",ca=".
const (
	certificateFile = "tls.pem"
	privateFile     = "tls.key"
)

// certificateLife is ten years: a client names this very certificate, and what a
// log says is proven otherwise.
const certificateLife = 10 * 365 * 24 * time.Hour

func tlsConfig(c *urfave.Context) (*tls.Config, error) {
	certificate, key := c.String("certificate"), c.String("key")
	if (certificate == "") != (key == "") {
		return nil, fault.Errorf(fault.Usage, "give both, or neither", "--certificate and --key belong together")
	}
	hosts := append(c.StringSlice("host"), hostOf(c.String("listen")), "localhost")
	if c.Bool("attest") {
		pair, err := selfSigned(hosts)
		return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}}, err
	}
	if certificate == "" {
		dir := c.Args().First()
		certificate, key = filepath.Join(dir, certificateFile), filepath.Join(dir, privateFile)
		if err := makeCertificate(certificate, key, hosts); err != nil {
			return nil, err
		}
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "give a certificate and its key in PEM", "the server's certificate: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}, nil
}

func hostOf(listen string) string {
	host, _, _ := net.SplitHostPort(listen) // what is no address is said by Listen
	return host
}

// makeCertificate makes a key and a certificate of its own, once.
func makeCertificate(certificate, keyFile string, hosts []string) error {
	if _, err := os.Stat(certificate); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	pair, err := selfSigned(hosts)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return err
	}
	defer clear(private)
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o644)
}

// selfSigned makes a key and a certificate of its own for it.
func selfSigned(hosts []string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "cloister-ledger"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(certificateLife), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if h != "" {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, err
}
