package format

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

// Sizes of RSA keys in bits: NIST SP 800-57 wants 2048 at least, and a stanza
// for more than 4096 protects a 256-bit DEK no better than X25519's.
const (
	minRSA = 2048
	maxRSA = 4096
)

// KeyID names a recipient: the SHA-256 of its SubjectPublicKeyInfo in DER.
type KeyID [sha256.Size]byte

// String returns "sha256:" and 64 hex digits, as fingerprints of keys are
// written elsewhere.
func (k KeyID) String() string { return "sha256:" + hex.EncodeToString(k[:]) }

// Recipient is a public key that a DEK can be wrapped for: X25519, or RSA of
// 2048 to 4096 bits.
type Recipient struct {
	id  KeyID
	key any // *ecdh.PublicKey or *rsa.PublicKey
}

// ParseRecipient parses a SubjectPublicKeyInfo in DER (RFC 5280), in its one
// encoding: a key with two would have two key ids.
func ParseRecipient(spki []byte) (*Recipient, error) {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("parsing a recipient's public key: %w", err)
	}
	r, err := newRecipient(key)
	if err == nil && r.id != sha256.Sum256(spki) {
		err = fmt.Errorf("the recipient's public key is not in its canonical encoding")
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

func newRecipient(key any) (*Recipient, error) {
	switch k := key.(type) {
	case *ecdh.PublicKey:
		if k.Curve() != ecdh.X25519() {
			return nil, fmt.Errorf("a recipient's key on %v, want X25519", k.Curve())
		}
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
			return nil, fmt.Errorf("a recipient's RSA key of %d bits, want %d to %d", bits, minRSA, maxRSA)
		}
	default:
		return nil, fmt.Errorf("a recipient's key of type %T, want X25519 or RSA", key)
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a recipient's public key: %w", err)
	}
	return &Recipient{id: sha256.Sum256(spki), key: key}, nil
}

// KeyID returns the recipient's key id.
func (r *Recipient) KeyID() KeyID { return r.id }

// SPKI returns the key as SubjectPublicKeyInfo in DER.
func (r *Recipient) SPKI() []byte {
	spki, err := x509.MarshalPKIXPublicKey(r.key)
	if err != nil {
		panic("format: encoding a key that was encoded before: " + err.Error())
	}
	return spki
}

// RecipientKey is the private half of a Recipient. It never shows in print or
// logs.
type RecipientKey struct {
	concealed
	public *Recipient
	key    any // *ecdh.PrivateKey or *rsa.PrivateKey
}

// NewRecipientKey makes an X25519 key, or an RSA key of rsaBits bits where that
// is not 0.
func NewRecipientKey(rsaBits int) (*RecipientKey, error) {
	if rsaBits == 0 {
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		return newRecipientKey(key, key.PublicKey())
	}
	key, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return nil, err
	}
	return newRecipientKey(key, &key.PublicKey)
}

// ParseRecipientKey parses a PKCS #8 key in DER (RFC 5208). Its errors say
// nothing of the content.
func ParseRecipientKey(pkcs8 []byte) (*RecipientKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, fmt.Errorf("the recipient's private key is not PKCS #8")
	}
	switch k := key.(type) {
	case *ecdh.PrivateKey:
		return newRecipientKey(k, k.PublicKey())
	case *rsa.PrivateKey:
		return newRecipientKey(k, &k.PublicKey)
	default:
		return nil, fmt.Errorf("a recipient's private key of type %T, want X25519 or RSA", key)
	}
}

func newRecipientKey(private, public any) (*RecipientKey, error) {
	r, err := newRecipient(public)
	if err != nil {
		return nil, err
	}
	return &RecipientKey{public: r, key: private}, nil
}

// PKCS8 returns the key in PKCS #8 DER, for its key file and nothing else.
func (k *RecipientKey) PKCS8() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k.key) }

// Recipient returns the public half.
func (k *RecipientKey) Recipient() *Recipient { return k.public }

// Destroy makes the key unusable and overwrites what of it can be reached: the
// standard library keeps copies of its own.
func (k *RecipientKey) Destroy() {
	if key, ok := k.key.(*rsa.PrivateKey); ok {
		clear(key.D.Bits())
		for _, prime := range key.Primes {
			clear(prime.Bits())
		}
	}
	k.key = nil
}

// DEK unwraps the DEK of the volume whose manifest or record begins with p, and
// returns it only where its check value is p's. The first stanza for this key
// that opens decides. Errors wrap ErrNotRecipient, ErrAuthentication,
// ErrWrongKey or ErrMalformed.
func (k *RecipientKey) DEK(p Preamble) (*DEK, error) {
	mine := false
	for s, err := range p.stanzas() {
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(s.keyID(), k.public.id[:]) {
			continue
		}
		mine = true
		if dek := k.unwrap(s, &p); dek != nil {
			return checked(dek, &p)
		}
	}
	if mine {
		return nil, fmt.Errorf("%w: no stanza for key %s opens", ErrAuthentication, k.public.id)
	}
	return nil, fmt.Errorf("%w: no stanza is for key %s", ErrNotRecipient, k.public.id)
}

// checked returns dek if it is the volume's: anybody can wrap a DEK of their
// own for a public key.
func checked(dek *DEK, p *Preamble) (*DEK, error) {
	if !dek.Check(p.Volume).Equal(p.Check) {
		dek.Destroy()
		return nil, fmt.Errorf("%w: the DEK in its stanza has another check value", ErrWrongKey)
	}
	return dek, nil
}
