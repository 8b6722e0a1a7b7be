package wire

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// rsaBits is 2048 for every key of the emulated services: a 4096-bit pair takes
// seconds to find, and these keys protect nothing.
const rsaBits = 2048

// Keys is the directory that keeps the services' private keys, one PKCS#8 PEM
// file each, mode 0600, so that a restart keeps its world.
type Keys struct{ Dir string }

// RSA returns the named RSA key, made on first use.
func (k Keys) RSA(name string) (*rsa.PrivateKey, error) {
	return load(k, name, func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, rsaBits) })
}

// EC returns the named key on curve, made on first use.
func (k Keys) EC(name string, curve elliptic.Curve) (*ecdsa.PrivateKey, error) {
	return load(k, name, func() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(curve, rand.Reader) })
}

func load[K crypto.Signer](k Keys, name string, generate func() (K, error)) (key K, err error) {
	path := filepath.Join(k.Dir, name+".pem")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if key, err = generate(); err != nil {
			return key, err
		}
		return key, save(path, key)
	}
	if err != nil {
		return key, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return key, fmt.Errorf("%s holds no PEM block", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return key, fmt.Errorf("reading %s: %w", path, err)
	}
	key, ok := parsed.(K)
	if !ok {
		return key, fmt.Errorf("%s holds a %T", path, parsed)
	}
	return key, nil
}

func save(path string, key crypto.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
