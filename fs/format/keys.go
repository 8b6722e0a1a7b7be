package format

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[secret]"

// concealed prints as [secret] in every way fmt, slog and encoding/json have, so
// that no log line can hold what embeds it by accident.
type concealed struct{}

func (concealed) String() string               { return redacted }
func (concealed) GoString() string             { return redacted }
func (concealed) Format(w fmt.State, _ rune)   { io.WriteString(w, redacted) }
func (concealed) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (concealed) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// secret is 32 bytes of key.
type secret struct {
	concealed
	b [32]byte
}

// Destroy overwrites the secret with zeros. Every holder of a copy destroys
// its own.
func (s *secret) Destroy() { clear(s.b[:]) }

// RootSecret is the owner's KEYFILE secret; it never leaves the owner.
type RootSecret struct{ secret }

// NewRootSecret returns a random root secret.
func NewRootSecret() *RootSecret {
	r := new(RootSecret)
	rand.Read(r.b[:])
	return r
}

// RootSecretFromBytes copies b, which must be 32 bytes long.
func RootSecretFromBytes(b []byte) (*RootSecret, error) {
	r := new(RootSecret)
	if len(b) != len(r.b) {
		return nil, fmt.Errorf("a root secret has %d bytes, got %d", len(r.b), len(b))
	}
	copy(r.b[:], b)
	return r, nil
}

// Expose returns the secret's bytes, for the one place that writes KEYFILE.
func (r *RootSecret) Expose() []byte { return r.b[:] }

// DeriveDEK returns the DEK of a volume at a key version. HKDF with the volume
// id in info makes the keys of any two volumes independent, so one root secret
// may serve inputs and outputs.
func (r *RootSecret) DeriveDEK(volume VolumeID, keyVersion uint32) *DEK {
	info := append([]byte("cloister dek v1"), volume[:]...)
	info = binary.BigEndian.AppendUint32(info, keyVersion)
	d := new(DEK)
	deriveInto(d.b[:], r.b[:], nil, info)
	return d
}

// DEK returns the DEK of the volume whose manifest or record begins with p. It
// opens only what the root secret's owner sealed, or nothing.
func (r *RootSecret) DEK(p Preamble) (*DEK, error) { return r.DeriveDEK(p.Volume, p.KeyVersion), nil }

// DEK is a volume's data encryption key: it seals manifests and journal
// records, and is the only key that is ever wrapped for somebody else.
type DEK struct{ secret }

// DEKFromBytes copies b, which must be 32 bytes long.
func DEKFromBytes(b []byte) (*DEK, error) {
	d := new(DEK)
	if len(b) != len(d.b) {
		return nil, fmt.Errorf("a DEK has %d bytes, got %d", len(d.b), len(b))
	}
	copy(d.b[:], b)
	return d, nil
}

// Expose returns the key's bytes, for the one place that wraps it.
func (d *DEK) Expose() []byte { return d.b[:] }

// Check returns the DEK check value for a volume. It is public.
func (d *DEK) Check(volume VolumeID) CheckValue {
	var c CheckValue
	deriveInto(c[:], d.b[:], nil, append([]byte("cloister dek-check v1"), volume[:]...))
	return c
}

// CheckValue tells a DEK from another without revealing it. It is compared
// before anything is decrypted, as AES-GCM does not commit to its key.
type CheckValue [32]byte

// String returns the value in 64 hex digits.
func (c CheckValue) String() string { return hex.EncodeToString(c[:]) }

// ParseCheckValue reads what String writes.
func ParseCheckValue(s string) (CheckValue, error) {
	var c CheckValue
	if err := parseHex(c[:], s); err != nil {
		return c, fmt.Errorf("check value %q: %w", s, err)
	}
	return c, nil
}

// Equal compares in constant time.
func (c CheckValue) Equal(other CheckValue) bool {
	return subtle.ConstantTimeCompare(c[:], other[:]) == 1
}

// ObjectKey seals data objects. It is random, and lives in the key table of a
// sealed manifest.
type ObjectKey struct{ secret }

// NewObjectKey returns a random object key.
func NewObjectKey() *ObjectKey {
	k := new(ObjectKey)
	rand.Read(k.b[:])
	return k
}

// Equal compares in constant time.
func (k *ObjectKey) Equal(other *ObjectKey) bool {
	return subtle.ConstantTimeCompare(k.b[:], other.b[:]) == 1
}

func deriveInto(dst, ikm, salt, info []byte) {
	key, err := hkdf.Key(sha256.New, ikm, salt, string(info), len(dst))
	if err != nil {
		// Only for an output longer than 255 hashes, which no caller asks for.
		panic("format: deriving a key: " + err.Error())
	}
	copy(dst, key)
	clear(key)
}
