package attest

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
)

// keySet is the answer of /certs. The service gives a certificate for each key
// and may leave out the numbers that a JWK of RSA otherwise has, which is why
// this is not left to a JOSE library.
type keySet struct {
	Keys []struct {
		KID string   `json:"kid"`
		KTY string   `json:"kty"`
		X5C []string `json:"x5c"` // base64 DER, leaf first
		N   string   `json:"n"`
		E   string   `json:"e"`
	} `json:"keys"`
}

// find returns the RSA key of an id. The answer came over TLS from the pinned
// authority itself; the certificates only carry the key.
func (s *keySet) find(kid string) (*rsa.PublicKey, error) {
	for _, k := range s.Keys {
		if k.KID != kid || k.KTY != "RSA" {
			continue
		}
		if len(k.X5C) > 0 {
			return keyOfCertificate(k.X5C[0])
		}
		return keyOfNumbers(k.N, k.E)
	}
	return nil, unknownKey{kid, len(s.Keys)}
}

// unknownKey is a key that a set does not have.
type unknownKey struct {
	kid  string
	keys int
}

func (e unknownKey) Error() string {
	return fmt.Sprintf("the service has no RSA key %.64q among its %d", e.kid, e.keys)
}

func keyOfCertificate(text string) (*rsa.PublicKey, error) {
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("the service's certificate is not base64: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("the service's certificate: %w", err)
	}
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("the service's certificate does not hold an RSA key")
	}
	return checkKey(key)
}

func keyOfNumbers(n, e string) (*rsa.PublicKey, error) {
	modulus, err := base64.RawURLEncoding.DecodeString(n)
	if err != nil {
		return nil, fmt.Errorf("the service's key: %w", err)
	}
	exponent, err := base64.RawURLEncoding.DecodeString(e)
	if err != nil || len(exponent) == 0 || len(exponent) > 3 {
		return nil, errors.New("the service's key has no usable exponent")
	}
	return checkKey(&rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(new(big.Int).SetBytes(exponent).Int64())})
}

func checkKey(key *rsa.PublicKey) (*rsa.PublicKey, error) {
	if bits := key.N.BitLen(); bits < 2048 || bits > 8192 {
		return nil, fmt.Errorf("the service's key has %d bits, expected 2048 to 8192", bits)
	}
	return key, nil
}
