package vault

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha1" // CKM_RSA_AES_KEY_WRAP's OAEP; collision resistance plays no part in it
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"

	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"cloister/enclave/envelope"
	"cloister/internal/fault"
)

// Wrap is a way in which vaults wrap a released key: an AES-256 key under
// RSA-OAEP with the named hash, then the key under it by AES-KWP (RFC 5649).
type Wrap string

// The ways there are. The first is what every vault does by itself.
const (
	WrapCKM Wrap = "CKM_RSA_AES_KEY_WRAP" // OAEP with SHA-1
	Wrap256 Wrap = "RSA_AES_KEY_WRAP_256"
	Wrap384 Wrap = "RSA_AES_KEY_WRAP_384"
)

func (w Wrap) hash() (crypto.Hash, error) {
	switch w {
	case WrapCKM:
		return crypto.SHA1, nil
	case Wrap256:
		return crypto.SHA256, nil
	case Wrap384:
		return crypto.SHA384, nil
	}
	return 0, fmt.Errorf("unknown key wrapping %q", string(w))
}

// unwrap opens a release's ciphertext: the OAEP box, as long as the modulus,
// then the KWP box. The caller zeroes the result.
func (k *ReleaseKey) unwrap(ciphertext []byte, how Wrap) ([]byte, error) {
	hash, err := how.hash()
	if err != nil {
		return nil, err
	}
	size := k.public.Size()
	if len(ciphertext) <= size {
		return nil, fmt.Errorf("the wrapped key has %d bytes, no more than the %d of its envelope", len(ciphertext), size)
	}
	aes, err := k.decrypter.Decrypt(nil, ciphertext[:size], &rsa.OAEPOptions{Hash: hash})
	if err != nil {
		return nil, errors.New("the released key is not wrapped to this start's release key")
	}
	defer clear(aes)
	if len(aes) != 32 {
		return nil, fmt.Errorf("the wrapping key has %d bytes, not 32", len(aes))
	}
	box, err := subtle.NewKWP(aes)
	if err != nil {
		return nil, err
	}
	key, err := box.Unwrap(ciphertext[size:])
	if err != nil {
		return nil, errors.New("the released key does not unwrap")
	}
	return key, nil
}

// KEK is a released key. It prints as a placeholder and is zeroed by Destroy.
// One of its keys is set. Only an RSA key opens a wrapped DEK.
type KEK struct {
	ID  string // with the version, as the vault names it
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
	oct []byte
}

// newKEK reads released key material and holds it against the public half in
// the vault's signed answer.
func newKEK(material []byte, pub releasedJWK) (*KEK, error) {
	switch pub.KTY {
	case "RSA", "RSA-HSM":
		return newRSAKEK(material, pub)
	case "EC", "EC-HSM":
		return newECKEK(material, pub)
	case "oct", "oct-HSM":
		if n := len(material); n != 16 && n != 24 && n != 32 {
			return nil, fmt.Errorf("the released oct key has %d bytes", n)
		}
		return &KEK{ID: pub.KID, oct: append([]byte(nil), material...)}, nil
	}
	return nil, fmt.Errorf("the released key is of kind %.20q, expected RSA, EC or oct", pub.KTY)
}

func newRSAKEK(material []byte, pub releasedJWK) (*KEK, error) {
	kek, err := ParseKEK(pub.KID, material)
	if err != nil {
		return nil, err
	}
	if string(kek.rsa.N.Bytes()) != string(pub.N) {
		kek.Destroy()
		return nil, errors.New("the released key is not the private half of the key the vault names")
	}
	return kek, nil
}

// ParseKEK reads an RSA key of 2048 to 4096 bits, PKCS #8, DER, that was released
// under the name id. The caller still owns, and zeroes, the bytes.
func ParseKEK(id string, pkcs8 []byte) (*KEK, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, errors.New("the released key is not PKCS #8")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("the released key is not RSA")
	}
	if bits := key.N.BitLen(); bits < 2048 || bits > 4096 {
		wipe(key)
		return nil, fmt.Errorf("the released key has %d bits, expected 2048 to 4096", bits)
	}
	return &KEK{ID: id, rsa: key}, nil
}

func newECKEK(material []byte, pub releasedJWK) (*KEK, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(material)
	if err != nil {
		return nil, errors.New("the released key is not PKCS #8")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the released key is not EC")
	}
	point, err := key.PublicKey.Bytes() // 4 ‖ X ‖ Y
	if err != nil || string(point[1:]) != string(pub.X)+string(pub.Y) {
		wipeEC(key)
		return nil, errors.New("the released key is not the private half of the key the vault names")
	}
	return &KEK{ID: pub.KID, ec: key}, nil
}

// Unwrap opens a wrapped DEK, as stored, and returns it when it is the expected
// one.
func (k *KEK) Unwrap(wrapped []byte, want envelope.Expected) (*envelope.DEK, error) {
	if k.rsa == nil {
		return nil, fault.Errorf(fault.Refused, "use an RSA KEK", "the KEK %s is not RSA, and wrapped DEKs are", k.ID)
	}
	e, err := envelope.Parse(wrapped)
	if err != nil {
		return nil, err
	}
	return e.Open(k.rsa, want)
}

// Bytes returns an oct key, not a copy, or nil.
func (k *KEK) Bytes() []byte { return k.oct }

// EC returns an EC key, not a copy, or nil.
func (k *KEK) EC() *ecdsa.PrivateKey { return k.ec }

// Destroy zeroes the key. It may be called more than once and on nil.
func (k *KEK) Destroy() {
	if k != nil {
		wipe(k.rsa)
		wipeEC(k.ec)
		clear(k.oct)
	}
}

const redactedKEK = "[KEK]"

func (KEK) String() string             { return redactedKEK }
func (KEK) GoString() string           { return redactedKEK }
func (KEK) Format(f fmt.State, _ rune) { fmt.Fprint(f, redactedKEK) }
func (KEK) LogValue() slog.Value       { return slog.StringValue(redactedKEK) }
