package vault

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
)

// ReleaseKeyBits is the modulus of the keys that releases are wrapped to: RSA
// of 3072 bits is as strong as the AES-128 that nothing here falls below, and
// every vault accepts it.
const ReleaseKeyBits = 3072

// ReleaseKey is the key pair of one start. Its private half never leaves this
// process's memory, or the TPM that holds it.
type ReleaseKey struct {
	decrypter crypto.Decrypter // of an RSA key
	public    *rsa.PublicKey
	kid       string
}

// HeldReleaseKey is one whose private half something else holds and destroys.
func HeldReleaseKey(d crypto.Decrypter, kid string) (*ReleaseKey, error) {
	public, ok := d.Public().(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("a release key is RSA, not %T", d.Public())
	}
	return &ReleaseKey{decrypter: d, public: public, kid: kid}, nil
}

// NewReleaseKey makes a pair of 2048 to 4096 bits.
func NewReleaseKey(bits int) (*ReleaseKey, error) {
	if bits < 2048 || bits > 4096 {
		return nil, fmt.Errorf("a release key has 2048 to 4096 bits, not %d", bits)
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("making the release key: %w", err)
	}
	sum := sha256.Sum256(key.N.Bytes())
	return &ReleaseKey{decrypter: key, public: &key.PublicKey, kid: hex.EncodeToString(sum[:16])}, nil
}

// RuntimeData is the JWKS that the report covers and the vault reads the public
// key from.
func (k *ReleaseKey) RuntimeData() ([]byte, error) {
	type jwk struct {
		KTY string   `json:"kty"`
		KID string   `json:"kid"`
		Ops []string `json:"key_ops"`
		N   string   `json:"n"`
		E   string   `json:"e"`
	}
	enc := base64.RawURLEncoding.EncodeToString
	return json.Marshal(map[string][]jwk{"keys": {{
		KTY: "RSA", KID: k.kid, Ops: []string{"encrypt"},
		N: enc(k.public.N.Bytes()), E: enc(big.NewInt(int64(k.public.E)).Bytes()),
	}}})
}

// Destroy zeroes the private half. It may be called more than once and on nil.
func (k *ReleaseKey) Destroy() {
	if k == nil {
		return
	}
	if key, ok := k.decrypter.(*rsa.PrivateKey); ok {
		wipe(key)
	}
}

const redactedReleaseKey = "[release key]"

func (ReleaseKey) String() string             { return redactedReleaseKey }
func (ReleaseKey) GoString() string           { return redactedReleaseKey }
func (ReleaseKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, redactedReleaseKey) }
func (ReleaseKey) LogValue() slog.Value       { return slog.StringValue(redactedReleaseKey) }

// wipe zeroes the parts of a private key that can be reached. crypto/rsa keeps
// a precomputed copy of its own that cannot; it goes with the garbage
// collector, in memory that the processor encrypts and that is never dumped.
func wipe(key *rsa.PrivateKey) {
	if key == nil {
		return
	}
	ints := append([]*big.Int{key.D, key.Precomputed.Dp, key.Precomputed.Dq, key.Precomputed.Qinv}, key.Primes...)
	for _, n := range ints {
		if n != nil {
			clear(n.Bits())
			n.SetInt64(0)
		}
	}
	key.Precomputed = rsa.PrecomputedValues{}
}

func wipeEC(key *ecdsa.PrivateKey) {
	if key != nil && key.D != nil {
		clear(key.D.Bits())
		key.D.SetInt64(0)
	}
}
