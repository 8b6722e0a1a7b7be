package spec

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Fingerprint returns "sha256:" and the hash of the signing key's
// SubjectPublicKeyInfo in hexadecimal: what parties compare out of band.
func (p Party) Fingerprint() (string, error) {
	der, err := decodeKey(p.SigningKey)
	if err != nil {
		return "", fmt.Errorf("party %q: %w", p.Name, err)
	}
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

func decodeKey(s string) ([]byte, error) {
	der, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("the key is not base64 on one line")
	}
	return der, nil
}

// TransparencyServices returns the keys that TransparencyKeys holds.
func (a Attestation) TransparencyServices() ([]*ecdsa.PublicKey, error) {
	var keys []*ecdsa.PublicKey
	for _, text := range a.TransparencyKeys {
		der, err := decodeKey(text)
		if err != nil {
			return nil, fmt.Errorf("a transparency service: %w", err)
		}
		key, err := x509.ParsePKIXPublicKey(der)
		if err != nil || !transparency(key) {
			return nil, errors.New("a transparency service's key is not ECDSA on P-384")
		}
		keys = append(keys, key.(*ecdsa.PublicKey))
	}
	return keys, nil
}

// signing, transparency and recipient say which public keys serve which purpose.
func signing(key any) bool {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return k.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return true
	default:
		return false
	}
}

func transparency(key any) bool {
	k, ok := key.(*ecdsa.PublicKey)
	return ok && k.Curve == elliptic.P384()
}

func recipient(key any) bool {
	switch k := key.(type) {
	case *ecdh.PublicKey:
		return k.Curve() == ecdh.X25519()
	case *rsa.PublicKey:
		return k.Size() >= 256
	default:
		return false
	}
}

func (c *checks) key(at, s string, serves func(any) bool) {
	if err := checkKey(s, serves); err != nil {
		c.add(at, err.Error(), "give the SubjectPublicKeyInfo in base64: the inside of a PEM file's PUBLIC KEY, on one line")
	}
}

// checkKey accepts a key in its one encoding: one with two would have two
// fingerprints.
func checkKey(s string, serves func(any) bool) error {
	der, err := decodeKey(s)
	if err != nil {
		return err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return errors.New("the key is not a SubjectPublicKeyInfo")
	}
	if !serves(key) {
		return fmt.Errorf("a key of type %T does not serve here", key)
	}
	again, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || !bytes.Equal(again, der) {
		return errors.New("the key is not in its canonical encoding")
	}
	return nil
}

// logKey accepts a verifier key as transparency logs write it, NAME+HASH+BASE64
// (C2SP signed-note), of the algorithm that its holder signs with: nothing else
// can be verified.
func (c *checks) logKey(at, s string, algorithm byte, does string) {
	c.text(at, s)
	if !isVerifierKey(s, algorithm) {
		c.add(at, fmt.Sprintf("%.80q is not a public key that %s", s, does), "give NAME+HASH+BASE64 as cloister-ledger init or cloister witness init prints it")
	}
}

// Algorithms of verifier keys with a 32-byte Ed25519 key (C2SP signed-note):
// plain, and timestamped cosignatures.
const (
	noteEd25519     = 0x01
	noteCosignature = 0x04
)

func isVerifierKey(s string, algorithm byte) bool {
	parts := strings.SplitN(s, "+", 3)
	if len(parts) != 3 || parts[0] == "" || strings.ContainsAny(parts[0], " \t") {
		return false
	}
	key, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(key) != 33 || key[0] != algorithm {
		return false
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	return parts[1] == hex.EncodeToString(sum[:4])
}
