package statement

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Algorithm names a kind of signing key.
type Algorithm string

// The signing keys that statements may be signed with.
const (
	P256    Algorithm = "p256"    // ECDSA over P-256 with SHA-256, signatures in ASN.1 DER
	Ed25519 Algorithm = "ed25519" // RFC 8032
)

// PublicKey is a key that a statement's signature can be checked with.
type PublicKey struct {
	key         crypto.PublicKey
	spki        []byte
	fingerprint string // which every check of a signature compares
}

// ParsePublicKey parses a SubjectPublicKeyInfo in DER (RFC 5280). It accepts
// P-256 and Ed25519, each in its one encoding: a key with two encodings would
// have two fingerprints.
func ParsePublicKey(spki []byte) (PublicKey, error) {
	if len(spki) > maxKeyBytes {
		return PublicKey{}, fmt.Errorf("a public key of %d bytes, at most %d are allowed", len(spki), maxKeyBytes)
	}
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return PublicKey{}, fmt.Errorf("parsing a public key: %w", err)
	}
	public, err := newPublicKey(key)
	if err != nil {
		return PublicKey{}, err
	}
	if !bytes.Equal(public.spki, spki) {
		return PublicKey{}, errors.New("the public key is not in its canonical encoding")
	}
	return public, nil
}

func newPublicKey(key crypto.PublicKey) (PublicKey, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return PublicKey{}, fmt.Errorf("an ECDSA key on %s, want P-256", k.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return PublicKey{}, fmt.Errorf("a public key of type %T, want ECDSA P-256 or Ed25519", key)
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	return PublicKey{key, spki, Digest(spki)}, err
}

// SPKI returns the key as SubjectPublicKeyInfo in DER.
func (k PublicKey) SPKI() []byte { return bytes.Clone(k.spki) }

// Fingerprint returns "sha256:" and the SHA-256 of the SPKI in hexadecimal. It
// is the key's id in statements and what parties compare out of band.
func (k PublicKey) Fingerprint() string { return k.fingerprint }

// VerifyMessage checks a signature that Signer.SignMessage made. Of a statement,
// Opened.Verify checks it.
func (k PublicKey) VerifyMessage(message, signature []byte) error {
	return k.verify(message, signature)
}

func (k PublicKey) verify(message, signature []byte) error {
	ok := false
	switch key := k.key.(type) {
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(message)
		ok = ecdsa.VerifyASN1(key, sum[:], signature)
	case ed25519.PublicKey:
		ok = ed25519.Verify(key, message, signature)
	}
	if !ok {
		return fmt.Errorf("the signature is not by key %s", k.Fingerprint())
	}
	return nil
}

// Signer signs statements: a PrivateKey, or a key held elsewhere.
type Signer interface {
	Public() PublicKey
	// SignMessage signs the message itself, not a digest of it.
	SignMessage(message []byte) ([]byte, error)
}

// PrivateKey is a signing key in memory. It never shows in print or logs.
type PrivateKey struct {
	key    crypto.Signer
	public PublicKey
}

// GenerateKey makes a new key from the system's random source.
func GenerateKey(algorithm Algorithm) (*PrivateKey, error) {
	switch algorithm {
	case P256:
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		return newPrivateKey(key)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		return newPrivateKey(key)
	default:
		return nil, fmt.Errorf("unknown kind of key %q, want %s or %s", algorithm, P256, Ed25519)
	}
}

// ParsePrivateKey parses a PKCS #8 key in DER (RFC 5208).
func ParsePrivateKey(pkcs8 []byte) (*PrivateKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, fmt.Errorf("parsing a private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a private key of type %T cannot sign", key)
	}
	return newPrivateKey(signer)
}

func newPrivateKey(key crypto.Signer) (*PrivateKey, error) {
	public, err := newPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	return &PrivateKey{key: key, public: public}, nil
}

// PKCS8 returns the key in PKCS #8 DER, for its key file and nothing else.
func (k *PrivateKey) PKCS8() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k.key) }

// Public returns the key's public half.
func (k *PrivateKey) Public() PublicKey { return k.public }

// SignMessage implements Signer.
func (k *PrivateKey) SignMessage(message []byte) ([]byte, error) {
	switch key := k.key.(type) {
	case *ecdsa.PrivateKey:
		// The nonce is drawn by crypto/ecdsa from the system's source mixed with
		// key and digest, so a weak source alone does not give the key away.
		sum := sha256.Sum256(message)
		return ecdsa.SignASN1(rand.Reader, key, sum[:])
	case ed25519.PrivateKey:
		return ed25519.Sign(key, message), nil
	default:
		return nil, errors.New("the signing key was destroyed")
	}
}

// Destroy makes the key unusable and overwrites what of it can be reached.
func (k *PrivateKey) Destroy() {
	switch key := k.key.(type) {
	case ed25519.PrivateKey:
		clear(key)
	case *ecdsa.PrivateKey:
		clear(key.D.Bits())
	}
	k.key = nil
}

const redacted = "[private key]"

func (k *PrivateKey) String() string             { return redacted }
func (k *PrivateKey) GoString() string           { return redacted }
func (k *PrivateKey) LogValue() slog.Value       { return slog.StringValue(redacted) }
func (k *PrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// Digest returns "sha256:" and the SHA-256 of data in hexadecimal.
func Digest(data []byte) string {
	return digestOf(sha256.Sum256(data))
}
