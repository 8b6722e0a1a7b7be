package envelope

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"log/slog"
)

// DEKSize is the size of a DEK in bytes: an AES-256 key's worth of entropy.
const DEKSize = 32

// DEK is a volume's data encryption key. It prints as a placeholder everywhere
// and is zeroed by Destroy.
type DEK struct{ key [DEKSize]byte }

// NewDEK copies a key of DEKSize bytes; the caller still owns, and zeroes, the
// original.
func NewDEK(key []byte) (*DEK, error) {
	if len(key) != DEKSize {
		return nil, fmt.Errorf("a DEK has %d bytes, not %d", DEKSize, len(key))
	}
	d := new(DEK)
	copy(d.key[:], key)
	return d, nil
}

// Bytes returns the key itself, not a copy: it is zero after Destroy.
func (d *DEK) Bytes() []byte { return d.key[:] }

// Destroy zeroes the key. It may be called more than once and on nil.
func (d *DEK) Destroy() {
	if d != nil {
		clear(d.key[:])
	}
}

const redacted = "[DEK]"

func (DEK) String() string                 { return redacted }
func (DEK) GoString() string               { return redacted }
func (DEK) Format(f fmt.State, _ rune)     { fmt.Fprint(f, redacted) }
func (DEK) LogValue() slog.Value           { return slog.StringValue(redacted) }
func (DEK) MarshalText() ([]byte, error)   { return []byte(redacted), nil }
func (DEK) MarshalBinary() ([]byte, error) { return []byte(redacted), nil }

// CheckValue is what a volume reference pins of a DEK: HKDF-SHA256 with no
// salt. AES-GCM does not commit to its key, so without it a substituted DEK
// could open crafted ciphertext; one-way, so it may be public.
func CheckValue(dek []byte, volumeID [16]byte) [32]byte {
	out, err := hkdf.Key(sha256.New, dek, nil, "cloister dek-check v1"+string(volumeID[:]), 32)
	if err != nil {
		// Only an output longer than 255 hashes fails, or a key that FIPS mode
		// refuses; a zero check value would match nothing honest.
		return [32]byte{}
	}
	return [32]byte(out)
}
