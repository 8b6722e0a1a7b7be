package spec

import (
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
)

// resourcePattern is REPOSITORY/TYPE/TAG in the broker's own rule for each part
// (confidential-containers/trustee, plugins/implementations/resource), with a
// length that fits a record.
var resourcePattern = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}){2}$`)

// volumeKey admits a vault or a broker, and nothing of both.
func (c *checks) volumeKey(at string, k Key) {
	if k.Broker == nil {
		c.keyName(at+".kek", k.KEK)
		c.url(at+".vault", k.Vault, noPath)
		c.secretURL(at+".secret", k.Secret)
		return
	}
	if k.KEK != "" || k.Vault != "" || k.Secret != "" {
		c.add(at, "names a vault and a broker", "give kek, vault and secret, or broker alone")
	}
	b := k.Broker
	c.url(at+".broker.url", b.URL, noHTTP)
	c.brokerResource(at+".broker.resource", b.Resource)
	c.brokerResource(at+".broker.kek", b.KEK)
	if b.Resource != "" && b.Resource == b.KEK {
		c.add(at+".broker.kek", fmt.Sprintf("%q is the wrapped DEK's resource too", b.KEK), "give the key a resource of its own")
	}
	c.certificate(at+".broker.ca", b.CA)
}

func (c *checks) certificate(at, text string) {
	if _, err := caCertificate(text); err != nil {
		c.add(at, err.Error(), "give the certificate, DER, in base64: the inside of a PEM file's CERTIFICATE, on one line")
	}
}

func (c *checks) brokerResource(at, s string) {
	if !resourcePattern.MatchString(s) {
		c.add(at, fmt.Sprintf("%.200q is not a broker's resource", s), "write REPOSITORY/TYPE/TAG, each of letters, digits, _ - and .")
	}
}

// Certificate returns what CA holds, or nil.
func (b Broker) Certificate() (*x509.Certificate, error) { return caCertificate(b.CA) }

// caCertificate reads what a field for one holds, nil where it is empty.
func caCertificate(text string) (*x509.Certificate, error) {
	if text == "" {
		return nil, nil
	}
	der, err := decodeKey(text)
	if err != nil || len(text) > maxText {
		return nil, fmt.Errorf("the certificate is not base64 on one line of at most %d characters", maxText)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, errors.New("it is not a certificate")
	}
	return cert, nil
}

// Roots returns what ends the broker's TLS chain; nil is the system's roots.
func (b Broker) Roots() (*x509.CertPool, error) { return caRoots(b.CA) }

// LedgerRoots returns what ends the ledger's TLS chain; nil is the system's roots.
func (g Governance) LedgerRoots() (*x509.CertPool, error) { return caRoots(g.LedgerCA) }

func caRoots(ca string) (*x509.CertPool, error) {
	cert, err := caCertificate(ca)
	if cert == nil || err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool, nil
}
